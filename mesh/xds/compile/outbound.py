"""LDS, outbound: the HTTP proxy that apps are pointed at, and a listener for each free TCP service port."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from envoy.config.core.v3.base_pb2 import OUTBOUND
from envoy.config.listener.v3.listener_components_pb2 import FilterChain, FilterChainMatch
from envoy.config.listener.v3.listener_pb2 import Listener

from mesh.api.destination_rule import ConsistentHashLB
from mesh.api.virtual_service import Destination, RouteDestination, TLSRoute
from mesh.registry.types import Service, ServicePort, by_age
from mesh.snapshot.virtual_services import BoundVirtualService
from mesh.xds.compile import names
from mesh.xds.compile.destinations import Destinations
from mesh.xds.compile.filters import SOURCE, http_filter, tcp_filters
from mesh.xds.compile.inbound import tls_inspector
from mesh.xds.compile.matching import Listening, applies
from mesh.xds.compile.messages import address
from mesh.xds.compile.proxy import Engine


@dataclass(frozen=True, slots=True)
class Hop:
    """Where connections go, by weight, and whether the client's address chooses the host."""

    clusters: tuple[tuple[str, int], ...]
    hashes_source_ip: bool = False


@dataclass(frozen=True, slots=True)
class TcpPort:
    """A service's TCP port: where connections go, and where those do whose TLS names one of some servers."""

    service: Service
    number: int
    hop: Hop
    by_server_names: tuple[tuple[tuple[str, ...], Hop], ...] = ()


def http_proxy_listener(name: str, host: str, engine: Engine) -> Listener:
    """Explicit HTTP proxy: absolute-form requests, routed by their authority."""
    return Listener(
        name=name,
        address=address(host, names.HTTP_PROXY_PORT),
        traffic_direction=OUTBOUND,
        filter_chains=[FilterChain(filters=[http_filter(names.HTTP_PROXY, engine, SOURCE, names.HTTP_PROXY)])],
    )


def tcp_listener(name: str, host: str, port: TcpPort, engine: Engine) -> Listener:
    """TLS is looked into for the server's name alone, and only where that makes a difference."""
    return Listener(
        name=name,
        address=address(host, port.number),
        traffic_direction=OUTBOUND,
        listener_filters=[tls_inspector()] if port.by_server_names else [],
        filter_chains=[*named_chains(port, engine), tcp_chain(port, port.hop, engine)],
    )


def named_chains(port: TcpPort, engine: Engine) -> Iterator[FilterChain]:
    """A chain for each of the routes that go by the server's name."""
    for server_names, hop in port.by_server_names:
        yield tcp_chain(port, hop, engine, server_names)


def tcp_chain(port: TcpPort, hop: Hop, engine: Engine, server_names: Sequence[str] = ()) -> FilterChain:
    stat_prefix = names.outbound_cluster(port.number, "", port.service.host)
    network_filters = tcp_filters(stat_prefix, engine, SOURCE, hop.clusters, hop.hashes_source_ip)
    match = FilterChainMatch(server_names=server_names) if server_names else None
    return FilterChain(filter_chain_match=match, filters=network_filters)


def tcp_claims(services: Iterable[Service], namespace: str) -> dict[int, tuple[Service, ServicePort]]:
    """Which service a TCP port number stands for: one of the client's namespace first, then the oldest."""
    claims: dict[int, tuple[Service, ServicePort]] = {}
    for service in sorted(services, key=lambda own: (own.namespace != namespace, *by_age(own))):
        for port in service.ports:
            # What is outside of the mesh often has a number that none but root may listen on.
            is_free = port.number not in names.RESERVED_PORTS and not (service.outside_host and port.number < 1024)
            if port.protocol.is_tcp and is_free:
                claims.setdefault(port.number, (service, port))
    return claims


def tcp_port(
    service: Service, number: int, bound: BoundVirtualService | None, at: Listening, destinations: Destinations
) -> TcpPort:
    """By the first `tcp` route of the service's VirtualService that applies there, else to the service itself.

    Connections that begin with TLS go by its `tls` routes first.
    """
    namespace = bound.namespace if bound is not None else service.namespace
    entries = _route(bound, at) or (RouteDestination(destination=Destination(host=service.host)),)
    named = tuple(tls_hops(bound, at, destinations)) if bound is not None else ()
    return TcpPort(service, number, _hop(entries, namespace, at, destinations), named)


def tls_hops(
    bound: BoundVirtualService, at: Listening, destinations: Destinations
) -> Iterator[tuple[tuple[str, ...], Hop]]:
    """Where the `tls` routes that apply there lead, with their server names."""
    for found, route in _tls_routes(bound, at):
        yield found, _hop(route.route, bound.namespace, at, destinations)


def tcp_hop(bound: BoundVirtualService, at: Listening, destinations: Destinations) -> Hop | None:
    """Where the first `tcp` route that applies there leads; None if none does."""
    entries = _route(bound, at)
    return _hop(entries, bound.namespace, at, destinations) if entries else None


def _hop(entries: Sequence[RouteDestination], namespace: str, at: Listening, destinations: Destinations) -> Hop:
    chosen = [entry for entry in entries if entry.weight > 0 or len(entries) == 1]
    return Hop(
        tuple((destinations.cluster(own.destination, namespace, at.port), own.weight or 1) for own in chosen),
        any(_hashes_source_ip(destinations.hashing(own.destination, namespace, at.port)) for own in chosen),
    )


def _route(bound: BoundVirtualService | None, at: Listening) -> tuple[RouteDestination, ...]:
    if bound is None:
        return ()
    for route in bound.source.spec.tcp:
        if not route.match or any(applies(match, at, bound.namespace) for match in route.match):
            return route.route
    return ()


def _tls_routes(bound: BoundVirtualService, at: Listening) -> Iterator[tuple[tuple[str, ...], TLSRoute]]:
    """Those that apply there, with their server names. The first route of a name counts; Envoy refuses a second."""
    seen: set[str] = set()
    for route in bound.source.spec.tls:
        asked = (name for own in route.match if applies(own, at, bound.namespace) for name in own.sni_hosts)
        found = tuple(name for name in dict.fromkeys(asked) if name not in seen)
        seen.update(found)
        if found:
            yield found, route


def _hashes_source_ip(hashing: ConsistentHashLB | None) -> bool:
    return hashing is not None and bool(hashing.use_source_ip)
