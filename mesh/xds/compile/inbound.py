"""LDS, inbound: one listener for each port of the workload, guarded as PeerAuthentication says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from envoy.config.core.v3.base_pb2 import INBOUND
from envoy.config.listener.v3.listener_components_pb2 import (
    Filter,
    FilterChain,
    FilterChainMatch,
    ListenerFilter,
)
from envoy.config.listener.v3.listener_pb2 import AdditionalAddress, Listener
from envoy.config.route.v3 import route_components_pb2 as rc
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from mesh.api.peer_authentication import MutualTLSMode
from mesh.xds.compile import names, tls
from mesh.xds.compile.filters import DESTINATION, http_filter, tcp_filters
from mesh.xds.compile.messages import address, packed
from mesh.xds.compile.ports import InboundPort
from mesh.xds.compile.proxy import Engine
from mesh.xds.compile.virtual_hosts import route_configuration

_TLS_TRANSPORT: Final = "tls"
_PLAIN_TRANSPORT: Final = "raw_buffer"


def inbound_listener(name: str, host: str, port: InboundPort, engine: Engine, trust_domain: str) -> Listener:
    """The listener on the pod's own address `host` for one container port."""
    return Listener(
        name=name,
        address=address(host, port.number),
        additional_addresses=[AdditionalAddress(address=address(*extra)) for extra in port.host_addresses],
        traffic_direction=INBOUND,
        listener_filters=[tls_inspector()],
        filter_chains=list(chains(str(port.number), port, inbound_filters(port, engine), trust_domain)),
    )


def tls_inspector() -> ListenerFilter:
    return ListenerFilter(name="envoy.filters.listener.tls_inspector", typed_config=packed(TlsInspector()))


def chains(
    name: str, port: InboundPort, network_filters: Sequence[Filter], trust_domain: str, captured: int | None = None
) -> Iterator[FilterChain]:
    """STRICT refuses plaintext by having no chain for it. A TCP app's own TLS passes as the bytes it is.

    `captured` is the destination port that the chains are for, in a listener for all of them.
    """
    destination = UInt32Value(value=captured) if captured is not None else None
    if port.mode is not MutualTLSMode.DISABLE:
        permissive = port.mode is MutualTLSMode.PERMISSIVE
        yield FilterChain(
            name=f"{name}_mtls",
            filter_chain_match=FilterChainMatch(
                destination_port=destination,
                transport_protocol=_TLS_TRANSPORT,
                application_protocols=tls.MESH_ALPN if permissive else (),
            ),
            filters=network_filters,
            transport_socket=tls.mesh_server(trust_domain, http=port.protocol.is_http),
        )
    if port.mode is not MutualTLSMode.STRICT:
        only_plain = port.mode is MutualTLSMode.PERMISSIVE and port.protocol.is_http
        yield FilterChain(
            name=f"{name}_plaintext",
            filter_chain_match=FilterChainMatch(
                destination_port=destination, transport_protocol=_PLAIN_TRANSPORT if only_plain else ""
            ),
            filters=network_filters,
        )


def inbound_filters(port: InboundPort, engine: Engine) -> list[Filter]:
    """What speaks with the app, behind the workload's policies: HTTP where the port says so, else bytes."""
    cluster = names.inbound_cluster(port.number)
    if not port.protocol.is_http:
        passing = tcp_filters(cluster, engine, DESTINATION, [(cluster, 1)])
        return [*port.guard.network_filters(port.aliases), *passing]
    operation = f"{port.services[0].host}:{port.number}" if port.services else cluster
    route = rc.Route(
        name="default",
        match=rc.RouteMatch(prefix="/"),
        route=rc.RouteAction(cluster=cluster, timeout=Duration()),
        decorator=rc.Decorator(operation=f"{operation}/*"),
    )
    virtual_host = rc.VirtualHost(name=f"inbound|http|{port.number}", domains=["*"], routes=[route])
    routes = route_configuration(cluster, [virtual_host])
    guards = list(port.guard.http_filters(port.aliases))
    return [http_filter(f"inbound_0.0.0.0_{port.number}", engine, DESTINATION, routes, guards)]
