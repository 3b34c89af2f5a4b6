"""Which listeners a proxy has, whatever its role, and the route configurations they ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from envoy.config.listener.v3.listener_pb2 import Listener

from mesh.registry.types import Workload
from mesh.xds.compile import names
from mesh.xds.compile.gateway import GatewayPort, gateway_listener
from mesh.xds.compile.inbound import inbound_listener
from mesh.xds.compile.outbound import TcpPort, http_proxy_listener, tcp_listener
from mesh.xds.compile.ports import InboundPort
from mesh.xds.compile.proxy import Engine
from mesh.xds.compile.virtual_listeners import (
    CapturedHttp,
    CapturedTcp,
    CapturedTls,
    VirtualInbound,
    VirtualOutbound,
    captured_http,
    captured_tcp,
    captured_tls,
    virtual_inbound,
    virtual_outbound,
)


@dataclass(frozen=True, slots=True)
class HttpProxyPort:
    """The port that apps are pointed at with `http_proxy`."""


ListeningPort: TypeAlias = (
    InboundPort
    | TcpPort
    | HttpProxyPort
    | GatewayPort
    | VirtualInbound
    | VirtualOutbound
    | CapturedHttp
    | CapturedTcp
    | CapturedTls
)


@dataclass(frozen=True, slots=True)
class ListenerPart:
    """A listener with all that it is compiled from. `address` is the pod's, where the listener binds to that."""

    address: str
    port: ListeningPort
    engine: Engine
    trust_domain: str

    @property
    def name(self) -> str:
        match self.port:
            case HttpProxyPort():
                return names.HTTP_PROXY
            case GatewayPort():
                return names.listener(names.ANY_ADDRESS, self.port.bound)  # Istio's name; it binds the pod's address
            case VirtualInbound():
                return names.VIRTUAL_INBOUND
            case VirtualOutbound():
                return names.VIRTUAL_OUTBOUND
            case CapturedHttp() | CapturedTls():
                return names.listener(names.ANY_ADDRESS, self.port.number)
            case CapturedTcp():
                return names.listener(self.port.address, self.port.port.number)
            case _:
                return names.listener(self.address, self.port.number)

    @property
    def wants(self) -> tuple[str, ...]:
        """Route configurations that it asks for over RDS."""
        match self.port:
            case HttpProxyPort():
                return (names.HTTP_PROXY,)
            case GatewayPort():
                return tuple(self.port.routed)
            case CapturedHttp():
                return (str(self.port.number),)
            case CapturedTcp(routes=routes) if routes:
                return (routes,)
            case _:
                return ()

    def compile(self) -> Listener:
        match self.port:
            case InboundPort():
                return inbound_listener(self.name, self.address, self.port, self.engine, self.trust_domain)
            case TcpPort():
                return tcp_listener(self.name, self.address, self.port, self.engine)
            case GatewayPort():
                return gateway_listener(self.name, self.address, self.port, self.engine, self.trust_domain)
            case HttpProxyPort():
                return http_proxy_listener(self.name, self.address, self.engine)
            case VirtualInbound():
                return virtual_inbound(self.port, self.engine, self.trust_domain)
            case VirtualOutbound():
                return virtual_outbound(self.port, self.engine)
            case CapturedHttp():
                return captured_http(self.name, self.port, self.engine)
            case CapturedTls():
                return captured_tls(self.name, self.port, self.engine)
            case CapturedTcp():
                return captured_tcp(self.name, self.port, self.engine)


def sidecar_ports(
    workload: Workload, inbound: Iterable[InboundPort], tcp: Iterable[TcpPort]
) -> Iterator[ListeningPort]:
    """The pod's own ports first; a TCP service gets its number only where the pod leaves it free."""
    taken = set((workload.app_ports or {}).values())
    for port in inbound:
        taken.add(port.number)
        yield port
    yield from (port for port in tcp if port.number not in taken)
    yield HttpProxyPort()
