"""VirtualServices by host for the sidecars of the mesh, and by gateway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from mesh.api.virtual_service import Destination, HTTPRoute, TCPRoute, TLSRoute, VirtualService, VirtualServiceSpec
from mesh.registry.types import resolve_host
from mesh.snapshot.delegates import Composed, composed
from mesh.snapshot.order import age, exported, host_matches, specificity

MESH: Final = "mesh"
"""Istio's reserved gateway name for all sidecars."""


@dataclass(frozen=True, slots=True)
class BoundVirtualService:
    """A VirtualService with its hosts and gateways, and those of its destinations, as full names.

    `source` has the routes of its delegates in it, and was made from `parts`. `asks_source` tells whether what it means
    depends on who calls.
    """

    source: VirtualService
    parts: tuple[VirtualService, ...]
    hosts: tuple[str, ...]
    gateways: frozenset[str]
    destinations: tuple[str, ...]
    asks_source: bool

    @property
    def namespace(self) -> str:
        return self.source.namespace


@dataclass(frozen=True, slots=True)
class VirtualServiceIndex:
    """Bound VirtualServices, oldest first."""

    all: tuple[BoundVirtualService, ...] = ()
    mesh_hosts: Mapping[str, tuple[BoundVirtualService, ...]] = field(default_factory=dict)
    by_gateway: Mapping[str, tuple[BoundVirtualService, ...]] = field(default_factory=dict)
    source_label_keys: frozenset[str] = frozenset()

    def for_host(self, host: str, viewer: str) -> BoundVirtualService | None:
        """The one that sidecars in namespace `viewer` follow for `host`: most specific host, then the oldest.

        The rest are ignored, as Istio does at sidecars.
        """
        exact = self._first_seen(host, viewer)
        if exact is not None:
            return exact
        wild = (pattern for pattern in self.mesh_hosts if pattern.startswith("*") and host_matches(pattern, host))
        for pattern in sorted(wild, key=specificity, reverse=True):
            found = self._first_seen(pattern, viewer)
            if found is not None:
                return found
        return None

    def _first_seen(self, pattern: str, viewer: str) -> BoundVirtualService | None:
        return next(
            (
                bound
                for bound in self.mesh_hosts.get(pattern, ())
                if exported(bound.source.spec.export_to, bound.namespace, viewer)
            ),
            None,
        )


def index(virtual_services: Iterable[VirtualService], former: VirtualServiceIndex | None = None) -> VirtualServiceIndex:
    """Bind and index. An unchanged VirtualService keeps the bound object that `former` has of it."""
    known = {tuple(map(id, bound.parts)): bound for bound in former.all} if former else {}
    ordered = tuple(
        known.get(tuple(map(id, own.parts))) or _bind(own) for own in composed(sorted(virtual_services, key=age))
    )
    mesh_hosts: dict[str, list[BoundVirtualService]] = {}
    by_gateway: dict[str, list[BoundVirtualService]] = {}
    for bound in ordered:
        for gateway in bound.gateways - {MESH}:
            by_gateway.setdefault(gateway, []).append(bound)
        for host in bound.hosts if MESH in bound.gateways else ():
            mesh_hosts.setdefault(host, []).append(bound)
    keys = frozenset(key for bound in ordered for key in _source_label_keys(bound.source))
    return VirtualServiceIndex(ordered, _frozen(mesh_hosts), _frozen(by_gateway), keys)


def gateway_name(reference: str, namespace: str) -> str:
    """`gateways` entry to `namespace/name`; `mesh` stays."""
    return reference if reference == MESH or "/" in reference else f"{namespace}/{reference}"


def _bind(own: Composed) -> BoundVirtualService:
    source = own.whole
    spec = source.spec
    hosts = tuple(dict.fromkeys(resolve_host(host, source.namespace) for host in spec.hosts))
    gateways = frozenset(gateway_name(gateway, source.namespace) for gateway in spec.gateways or (MESH,))
    matches = [match for route in _routes(spec) for match in route.match]
    return BoundVirtualService(
        source,
        own.parts,
        hosts,
        gateways,
        destinations=tuple(
            dict.fromkeys(
                resolve_host(destination.host, source.namespace)
                for route in _routes(spec)
                for destination in _destinations(route)
            )
        ),
        asks_source=any(match.source_namespace or match.source_labels for match in matches),
    )


def _routes(spec: VirtualServiceSpec) -> tuple[HTTPRoute | TCPRoute | TLSRoute, ...]:
    return (*spec.http, *spec.tcp, *spec.tls)


def _destinations(route: HTTPRoute | TCPRoute | TLSRoute) -> Iterator[Destination]:
    """Where requests go, and copies of them."""
    yield from (entry.destination for entry in route.route)
    if isinstance(route, HTTPRoute):
        yield from (entry.destination for entry in route.mirrors)
        yield from (route.mirror,) if route.mirror is not None else ()


def _source_label_keys(source: VirtualService) -> Iterator[str]:
    for route in _routes(source.spec):
        for match in route.match:
            yield from match.source_labels


def _frozen(
    grouped: Mapping[str, list[BoundVirtualService]],
) -> dict[str, tuple[BoundVirtualService, ...]]:
    return {name: tuple(bound) for name, bound in grouped.items()}
