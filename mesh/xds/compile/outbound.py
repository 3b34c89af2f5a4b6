"""LDS, outbound: the HTTP proxy that apps are pointed at, and a listener for each free TCP service port."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from envoy.config.core.v3.base_pb2 import OUTBOUND
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener

from mesh.api.virtual_service import RouteDestination
from mesh.registry.types import Service, ServicePort, by_age
from mesh.snapshot.virtual_services import BoundVirtualService
from mesh.xds.compile import names
from mesh.xds.compile.filters import SOURCE, http_filter, tcp_filter
from mesh.xds.compile.matching import Listening, applies
from mesh.xds.compile.messages import address
from mesh.xds.compile.proxy import Engine
from mesh.xds.compile.routes import ClusterOf


@dataclass(frozen=True, slots=True)
class TcpPort:
    """A service's TCP port and where its connections go, by weight."""

    service: Service
    number: int
    clusters: tuple[tuple[str, int], ...]


def http_proxy_listener(name: str, host: str, engine: Engine) -> Listener:
    """Explicit HTTP proxy: absolute-form requests, routed by their authority."""
    return Listener(
        name=name,
        address=address(host, names.HTTP_PROXY_PORT),
        traffic_direction=OUTBOUND,
        filter_chains=[FilterChain(filters=[http_filter(names.HTTP_PROXY, engine, SOURCE, names.HTTP_PROXY)])],
    )


def tcp_listener(name: str, host: str, port: TcpPort, engine: Engine) -> Listener:
    stat_prefix = names.outbound_cluster(port.number, "", port.service.host)
    return Listener(
        name=name,
        address=address(host, port.number),
        traffic_direction=OUTBOUND,
        filter_chains=[FilterChain(filters=[tcp_filter(stat_prefix, engine, SOURCE, port.clusters)])],
    )


def tcp_claims(services: Iterable[Service], namespace: str) -> dict[int, tuple[Service, ServicePort]]:
    """Which service a TCP port number stands for: one of the client's namespace first, then the oldest."""
    claims: dict[int, tuple[Service, ServicePort]] = {}
    for service in sorted(services, key=lambda own: (own.namespace != namespace, *by_age(own))):
        for port in service.ports:
            if port.protocol.is_tcp and port.number not in names.RESERVED_PORTS:
                claims.setdefault(port.number, (service, port))
    return claims


def tcp_clusters(
    service: Service, bound: BoundVirtualService | None, at: Listening, cluster_of: ClusterOf
) -> tuple[tuple[str, int], ...]:
    """The first `tcp` route of the service's VirtualService that applies there, else the service itself."""
    if bound is not None:
        for route in bound.source.spec.tcp:
            if not route.match or any(applies(match, at, bound.namespace) for match in route.match):
                return tuple(_weighted(route.route, bound.namespace, at.port, cluster_of))
    return ((names.outbound_cluster(at.port, "", service.host), 1),)


def _weighted(
    entries: tuple[RouteDestination, ...], namespace: str, port: int, cluster_of: ClusterOf
) -> Iterator[tuple[str, int]]:
    for entry in entries:
        if entry.weight > 0 or len(entries) == 1:
            yield cluster_of(entry.destination, namespace, port), entry.weight or 1
