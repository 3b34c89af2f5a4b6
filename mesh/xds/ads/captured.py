"""Outbound resources of sidecars that traffic is diverted to, compiled once for all that see the same."""

from __future__ import annotations

from collections.abc import Callable

from mesh.snapshot.snapshot import MeshSnapshot
from mesh.xds.ads.encoding import encoded_host, same_or_new
from mesh.xds.compile.captured import Captured, captured
from mesh.xds.compile.listeners import ListeningPort
from mesh.xds.compile.parts import VirtualHostPart
from mesh.xds.compile.proxy import Engine, Sight
from mesh.xds.compile.virtual_hosts import allow_any, block_all, route_configuration
from mesh.xds.resource import Layer, Resource, from_bytes
from mesh.xds.types import XdsType

CompileHost = Callable[[VirtualHostPart], bytes]
CompileListener = Callable[[Sight, Engine, str, ListeningPort], Resource]


class CapturedResources:
    """`virtual_host` and `listener` compile one, or remember it."""

    def __init__(self, virtual_host: CompileHost, listener: CompileListener) -> None:
        self._virtual_host = virtual_host
        self._compile_listener = listener
        self._seen: dict[Sight, Captured] = {}
        self._routes: dict[tuple[Sight, str], Resource | None] = {}
        self._listeners: dict[tuple[Sight, Engine], tuple[int, Layer]] = {}

    def clear(self) -> None:
        """The configuration is another one. Listeners that come out as they were stay the same layer."""
        self._seen.clear()
        self._routes.clear()

    def routes(self, snapshot: MeshSnapshot, sight: Sight, name: str) -> Resource | None:
        """A route configuration; None if there is none of that name."""
        key = sight, name
        if key not in self._routes:
            self._routes[key] = self._make_routes(snapshot, sight, name)
        return self._routes[key]

    def listeners(self, snapshot: MeshSnapshot, sight: Sight, engine: Engine) -> Layer:
        generation, former = self._listeners.get((sight, engine), (-1, Layer(())))
        if generation == snapshot.config_generation:
            return former
        ports = self._captured(snapshot, sight).listening
        layer = same_or_new([self._compile_listener(sight, engine, "", port) for port in ports], former)
        self._listeners[sight, engine] = snapshot.config_generation, layer
        return layer

    def _captured(self, snapshot: MeshSnapshot, sight: Sight) -> Captured:
        if sight not in self._seen:
            self._seen[sight] = captured(snapshot, sight)
        return self._seen[sight]

    def _make_routes(self, snapshot: MeshSnapshot, sight: Sight, name: str) -> Resource | None:
        found = self._captured(snapshot, sight)
        if name in found.alone:
            hosts = [self._virtual_host(found.alone[name])]
        elif name in found.http:
            rest = block_all() if snapshot.options.registry_only else allow_any()
            hosts = [*(self._virtual_host(part) for part in found.http[name]), encoded_host(rest)]
        else:
            return None
        head = route_configuration(name).SerializeToString(deterministic=True)
        return from_bytes(XdsType.RDS, name, b"".join((head, *hosts)))
