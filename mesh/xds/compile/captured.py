"""What sidecars of one sight do with their apps' traffic where the kernel captures it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from mesh.registry.protocol import Protocol
from mesh.registry.types import Service, ServicePort, by_age
from mesh.snapshot.snapshot import MeshSnapshot
from mesh.xds.compile import names, outbound
from mesh.xds.compile.destinations import Destinations, hashing_rules
from mesh.xds.compile.listeners import ListeningPort
from mesh.xds.compile.parts import VirtualHostPart, listening, virtual_host_parts, visible
from mesh.xds.compile.proxy import Sight
from mesh.xds.compile.virtual_hosts import Reach
from mesh.xds.compile.virtual_listeners import CapturedHttp, CapturedTcp, CapturedTls, VirtualOutbound

_TLS: Final = frozenset({Protocol.TLS, Protocol.HTTPS})


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
    owners = _owners(snapshot, sight)
    parts = [_captured_part(part, owners) for part in virtual_host_parts(snapshot, sight)]
    numbers = sorted({port.number for _, port in _ports(snapshot, sight) if port.protocol.is_http})
    tcp = tuple(_tcp(snapshot, sight, owners))
    detected = {own.routes for own in tcp if own.routes}
    return Captured(
        (
            VirtualOutbound(snapshot.options.registry_only),
            *(CapturedHttp(number) for number in numbers),
            *tcp,
            *_tls(snapshot, sight, frozenset(numbers)),
        ),
        {str(number): tuple(part for part in parts if part.at.port == number) for number in numbers},
        {part.name: replace(part, reach=Reach(alone=True)) for part in parts if part.name in detected},
    )


def _ports(snapshot: MeshSnapshot, sight: Sight) -> Iterator[tuple[Service, ServicePort]]:
    """Kubernetes' own services first, then the older ones: the order in which they are heard."""
    services = [service for _, service in visible(snapshot, sight.namespace)]
    for service in sorted(services, key=lambda own: (bool(own.outside_host), *by_age(own))):
        for port in service.ports:
            if port.number not in names.RESERVED_PORTS:
                yield service, port


def _owners(snapshot: MeshSnapshot, sight: Sight) -> Mapping[tuple[str, int], str]:
    """Whose an address and port are: users may give several ServiceEntries the same ones, proxies want one meaning."""
    owners: dict[tuple[str, int], str] = {}
    for service, port in _ports(snapshot, sight):
        for address in service.addresses:
            owners.setdefault((address, port.number), service.host)
    return owners


def _captured_part(part: VirtualHostPart, owners: Mapping[tuple[str, int], str]) -> VirtualHostPart:
    named = part.service.addresses if part.service is not None else ()
    own = tuple(address for address in named if owners.get((address, part.at.port)) == part.host)
    return replace(part, reach=Reach(captured=True, addresses=own))


def _tcp(snapshot: MeshSnapshot, sight: Sight, owners: Mapping[tuple[str, int], str]) -> Iterator[CapturedTcp]:
    """A listener for each TCP port of a service with an address.

    Connections to a headless service's pods go where they were meant to go: only the client knows which it wants.
    """
    destinations = _destinations(snapshot, sight)
    for service, port in _ports(snapshot, sight):
        if not port.protocol.is_tcp:
            continue
        own = _tcp_port(snapshot, sight, service, port, destinations)
        detects = port.protocol is Protocol.UNSUPPORTED
        for address in service.addresses:
            if owners[address, port.number] == service.host:
                yield CapturedTcp(address, own, f"{service.host}:{port.number}" if detects else "")


def _tls(snapshot: MeshSnapshot, sight: Sight, http: frozenset[int]) -> Iterator[CapturedTls]:
    """A listener for each TLS port of hosts without an address of their own, told apart by the server's name."""
    destinations = _destinations(snapshot, sight)
    chains: dict[int, dict[str, outbound.TcpPort]] = {}
    for service, port in _ports(snapshot, sight):
        if port.protocol in _TLS and service.outside_host and not service.address and port.number not in http:
            own = _tcp_port(snapshot, sight, service, port, destinations)
            chains.setdefault(port.number, {})[service.host] = own
    for number, by_host in sorted(chains.items()):
        yield CapturedTls(number, tuple(_named(by_host)), snapshot.options.registry_only)


def _named(by_host: Mapping[str, outbound.TcpPort]) -> Iterator[tuple[str, outbound.TcpPort, outbound.Hop]]:
    """Server names with where they lead; `tls` routes before the host itself, and each name once."""
    seen: set[str] = set()
    for host, port in by_host.items():
        for server_names, hop in (*port.by_server_names, ((host,), port.hop)):
            for name in server_names:
                if name not in seen:
                    seen.add(name)
                    yield name, port, hop


def _tcp_port(
    snapshot: MeshSnapshot, sight: Sight, service: Service, port: ServicePort, destinations: Destinations
) -> outbound.TcpPort:
    bound = snapshot.virtual_services.for_host(service.host, sight.namespace)
    return outbound.tcp_port(service, port.number, bound, listening(sight, port.number), destinations)


def _destinations(snapshot: MeshSnapshot, sight: Sight) -> Destinations:
    services = snapshot.services
    return Destinations(services, dict(hashing_rules(services.values(), snapshot.destination_rules, sight.namespace)))
