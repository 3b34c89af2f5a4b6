"""What sidecars of one sight do with their apps' traffic where the kernel captures it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from mesh.registry.protocol import Protocol
from mesh.registry.types import Service, ServicePort, by_age
from mesh.snapshot.snapshot import MeshSnapshot
from mesh.xds.compile import names, outbound
from mesh.xds.compile.destinations import Destinations, hashing_rules
from mesh.xds.compile.listeners import ListeningPort
from mesh.xds.compile.parts import VirtualHostPart, listening, virtual_host_parts
from mesh.xds.compile.proxy import Sight
from mesh.xds.compile.virtual_hosts import Reach
from mesh.xds.compile.virtual_listeners import CapturedHttp, CapturedTcp, VirtualOutbound


@dataclass(frozen=True, slots=True)
class Captured:
    """`listening` are the outbound listeners; `http` and `alone` the virtual hosts of their route configurations.

    Those of `http` go by a port's number, and end in whatever the mesh does with unknown hosts; those of `alone` have
    one virtual host each.
    """

    listening: tuple[ListeningPort, ...]
    http: Mapping[str, tuple[VirtualHostPart, ...]]
    alone: Mapping[str, VirtualHostPart]


def captured(snapshot: MeshSnapshot, sight: Sight) -> Captured:
    """Listeners and virtual hosts, of all services that there are."""
    parts = [replace(part, reach=Reach.CAPTURED) for part in virtual_host_parts(snapshot, sight)]
    numbers = sorted({port.number for _, port in _ports(snapshot) if port.protocol.is_http})
    tcp = tuple(_tcp(snapshot, sight))
    detected = {own.routes for own in tcp if own.routes}
    return Captured(
        (VirtualOutbound(snapshot.options.registry_only), *(CapturedHttp(number) for number in numbers), *tcp),
        {str(number): tuple(part for part in parts if part.at.port == number) for number in numbers},
        {part.name: replace(part, reach=Reach.ALONE) for part in parts if part.name in detected},
    )


def _ports(snapshot: MeshSnapshot) -> Iterator[tuple[Service, ServicePort]]:
    for service in sorted(snapshot.services.values(), key=by_age):
        for port in service.ports:
            if port.number not in names.RESERVED_PORTS:
                yield service, port


def _tcp(snapshot: MeshSnapshot, sight: Sight) -> Iterator[CapturedTcp]:
    """A listener for each TCP port of a service with an address.

    Connections to a headless service's pods go where they were meant to go: only the client knows which it wants.
    """
    services = snapshot.services
    hashing = dict(hashing_rules(services.values(), snapshot.destination_rules, sight.namespace))
    destinations = Destinations(services, hashing)
    for service, port in _ports(snapshot):
        if not port.protocol.is_tcp or not service.address:
            continue
        bound = snapshot.virtual_services.for_host(service.host, sight.namespace)
        own = outbound.tcp_port(service, port.number, bound, listening(sight, port.number), destinations)
        detects = port.protocol is Protocol.UNSUPPORTED
        yield CapturedTcp(service.address, own, f"{service.host}:{port.number}" if detects else "")
