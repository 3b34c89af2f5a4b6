"""LDS where the kernel hands all of a pod's connections to its sidecar: Istio's layout.

Two listeners are bound, `virtualOutbound` and `virtualInbound`. The first passes each connection on to the listener,
bound nowhere, of the address and port that the app meant, and keeps those that no listener is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from envoy.config.core.v3.base_pb2 import INBOUND, OUTBOUND
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, FilterChainMatch, ListenerFilter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.listener.http_inspector.v3.http_inspector_pb2 import HttpInspector
from envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2 import OriginalDst
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from mesh.api.peer_authentication import MutualTLSMode
from mesh.registry.protocol import Protocol
from mesh.xds.compile import names
from mesh.xds.compile.filters import DESTINATION, SOURCE, http_filter, tcp_filters
from mesh.xds.compile.guard import NO_GUARD, Guard
from mesh.xds.compile.inbound import chains, inbound_filters, tls_inspector
from mesh.xds.compile.messages import address, packed
from mesh.xds.compile.outbound import Hop, TcpPort, named_chains, tcp_chain
from mesh.xds.compile.policy import Policy
from mesh.xds.compile.ports import InboundPort
from mesh.xds.compile.proxy import Engine

_HTTP_PROTOCOLS: Final = ("http/1.0", "http/1.1", "h2c")
_INSPECTION: Final = Duration(seconds=5)
"""How long a client may say nothing before its connection is taken as one where the server speaks first."""
_EXCLUSIVE: Final = BoolValue(value=False)
"""An app of the sidecar's uid could listen on a shared port (SO_REUSEPORT) too, for a part of what comes."""


@dataclass(frozen=True, slots=True)
class VirtualOutbound:
    """What an app sends where nobody else listens. `registry_only` ends it."""

    registry_only: bool


@dataclass(frozen=True, slots=True)
class CapturedHttp:
    """Requests to any address on this port, routed by their authority."""

    number: int


@dataclass(frozen=True, slots=True)
class CapturedTcp:
    """Connections to one address. `routes` names what requests go by, where the port does not say its protocol."""

    address: str
    port: TcpPort
    routes: str = ""


@dataclass(frozen=True, slots=True)
class CapturedTls:
    """TLS to any address on this port, by the server's name. `registry_only` ends what names none of these."""

    number: int
    named: tuple[tuple[str, TcpPort, Hop], ...]
    registry_only: bool


@dataclass(frozen=True, slots=True)
class VirtualInbound:
    """All that comes to the pod. `other` is the mutual TLS mode of undeclared ports, `guard` their policies."""

    ports: tuple[InboundPort, ...]
    other: MutualTLSMode
    guard: Guard = NO_GUARD


def virtual_outbound(port: VirtualOutbound, engine: Engine) -> Listener:
    """`virtualOutbound` on 15001. A connection made to that port itself would come back for ever."""
    own = names.VIRTUAL_OUTBOUND_PORT
    return Listener(
        name=names.VIRTUAL_OUTBOUND,
        address=address(names.ANY_ADDRESS, own),
        use_original_dst=BoolValue(value=True),
        enable_reuse_port=_EXCLUSIVE,
        traffic_direction=OUTBOUND,
        filter_chains=[
            _black_hole(names.VIRTUAL_OUTBOUND, own, engine, SOURCE),
            FilterChain(
                name=f"{names.VIRTUAL_OUTBOUND}-catchall-tcp",
                filters=_rest(port.registry_only, engine),
            ),
        ],
    )


def captured_http(name: str, port: CapturedHttp, engine: Engine) -> Listener:
    """`0.0.0.0_<port>`, with the route configuration of that number."""
    routed = http_filter(f"outbound_{name}", engine, SOURCE, str(port.number))
    return _unbound(name, names.ANY_ADDRESS, port.number, [FilterChain(filters=[routed])])


def captured_tcp(name: str, own: CapturedTcp, engine: Engine) -> Listener:
    """`<address>_<port>`. Where the protocol has to be found out, whatever is not HTTP is passed on as it is."""
    rest = tcp_chain(own.port, own.port.hop, engine)
    named = list(named_chains(own.port, engine))
    if not own.routes:
        listener = _unbound(name, own.address, own.port.number, [*named, rest])
        listener.listener_filters.extend([tls_inspector()] if named else [])
        return listener
    routed = FilterChain(
        filter_chain_match=FilterChainMatch(transport_protocol="raw_buffer", application_protocols=_HTTP_PROTOCOLS),
        filters=[http_filter(f"outbound_{name}", engine, SOURCE, own.routes)],
    )
    listener = _unbound(name, own.address, own.port.number, [*named, routed])
    listener.default_filter_chain.CopyFrom(rest)
    http_inspector = ListenerFilter(name="envoy.filters.listener.http_inspector", typed_config=packed(HttpInspector()))
    _inspect(listener, [tls_inspector(), http_inspector])
    return listener


def captured_tls(name: str, own: CapturedTls, engine: Engine) -> Listener:
    """`0.0.0.0_<port>`. What begins otherwise is passed on as it is, or ended."""
    chains_ = [tcp_chain(port, hop, engine, [server_name]) for server_name, port, hop in own.named]
    listener = _unbound(name, names.ANY_ADDRESS, own.number, chains_)
    listener.default_filter_chain.CopyFrom(FilterChain(filters=_rest(own.registry_only, engine)))
    _inspect(listener, [tls_inspector()])
    return listener


def virtual_inbound(inbound: VirtualInbound, engine: Engine, trust_domain: str) -> Listener:
    """`virtualInbound` on 15006: chains for each declared port, and for all others together."""
    own = names.VIRTUAL_INBOUND_PORT
    other = InboundPort(0, ("", 0), Protocol.TCP, (), inbound.other, Policy(), ())
    passing = [
        *inbound.guard.network_filters(),
        *tcp_filters(names.INBOUND_PASSTHROUGH, engine, DESTINATION, [(names.INBOUND_PASSTHROUGH, 1)]),
    ]
    listener = Listener(
        name=names.VIRTUAL_INBOUND,
        address=address(names.ANY_ADDRESS, own),
        enable_reuse_port=_EXCLUSIVE,
        traffic_direction=INBOUND,
        filter_chains=[_black_hole(names.VIRTUAL_INBOUND, own, engine, DESTINATION)],
    )
    for port in inbound.ports:
        guarded = chains(str(port.number), port, inbound_filters(port, engine), trust_domain, port.number)
        listener.filter_chains.extend(guarded)
    listener.filter_chains.extend(chains(names.VIRTUAL_INBOUND, other, passing, trust_domain))
    original = ListenerFilter(name="envoy.filters.listener.original_dst", typed_config=packed(OriginalDst()))
    _inspect(listener, [original, tls_inspector()])
    return listener


def _rest(registry_only: bool, engine: Engine) -> list[Filter]:
    """What becomes of connections that the mesh knows nothing of."""
    cluster = names.BLACK_HOLE if registry_only else names.PASSTHROUGH
    return tcp_filters(cluster, engine, SOURCE, [(cluster, 1)])


def _unbound(name: str, host: str, port: int, filter_chains: Sequence[FilterChain]) -> Listener:
    return Listener(
        name=name,
        address=address(host, port),
        bind_to_port=BoolValue(value=False),
        traffic_direction=OUTBOUND,
        filter_chains=filter_chains,
    )


def _inspect(listener: Listener, filters: Sequence[ListenerFilter]) -> None:
    """Look at what the client says first, but do not wait for ever: some let the server begin."""
    listener.listener_filters.extend(filters)
    listener.listener_filters_timeout.CopyFrom(_INSPECTION)
    listener.continue_on_listener_filters_timeout = True


def _black_hole(name: str, port: int, engine: Engine, reporter: str) -> FilterChain:
    return FilterChain(
        name=f"{name}-blackhole",
        filter_chain_match=FilterChainMatch(destination_port=UInt32Value(value=port)),
        filters=tcp_filters(names.BLACK_HOLE, engine, reporter, [(names.BLACK_HOLE, 1)]),
    )
