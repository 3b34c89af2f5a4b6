"""Listener to ListenerConfig: addresses, filter chains and what serves each."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envoy.config.core.v3.base_pb2 import INBOUND, OUTBOUND, Node
from envoy.config.listener.v3.listener_pb2 import Listener

from mesh.proxy.compile import access_log, http, tcp, tls
from mesh.proxy.compile.access_log import log_steps
from mesh.proxy.compile.listener_filters import compile_listener_filters, tls_inspector
from mesh.proxy.compile.network_filters import compile_network_filters
from mesh.proxy.compile.values import ADDRESS, networks, seconds_or, socket_address, value_or
from mesh.proxy.downstream.filter_chain import ChainMatch, FilterChain, ListenerConfig, Overlap, chain_finder
from mesh.proxy.downstream.listener_filters.listener_filter import ListenerFilter
from mesh.proxy.downstream.listener_filters.original_dst import OriginalDst
from mesh.proxy.downstream.listener_filters.tls_inspector import TlsInspector
from mesh.proxy.downstream.socket_options import BACKLOG, Option, SocketOptions
from mesh.proxy.downstream.tcp import TcpConfig
from mesh.proxy.fields import OPAQUE, Place, check
from mesh.proxy.filters import istio_stats
from mesh.proxy.filters.registry import TYPED_STRUCTS
from mesh.proxy.observe.access_log import LogFiles
from mesh.proxy.observe.downstream_counters import ListenerStats
from mesh.proxy.observe.stats import Stats

if TYPE_CHECKING:
    from mesh.proxy.observe.log_service import LogService

_L = "envoy.config.listener.v3."
SUPPORTED = {
    _L + "Listener": frozenset(
        ("name", "address", "additional_addresses", "stat_prefix", "filter_chains", "default_filter_chain",
         "per_connection_buffer_limit_bytes", "metadata", "listener_filters", "listener_filters_timeout",
         "continue_on_listener_filters_timeout", "traffic_direction", "enable_reuse_port", "drain_type",
         "use_original_dst", "bind_to_port", "transparent", "freebind", "socket_options", "tcp_fast_open_queue_length",
         "tcp_backlog_size", "ignore_global_conn_limit", "access_log")
    ),
    _L + "AdditionalAddress": frozenset(("address",)),
    _L + "ListenerFilter": OPAQUE,  # checked with its own table
    _L + "FilterChain": frozenset(
        ("filter_chain_match", "filters", "transport_socket", "transport_socket_connect_timeout", "name", "metadata")
    ),
    _L + "FilterChainMatch": frozenset(
        ("destination_port", "prefix_ranges", "server_names", "transport_protocol", "application_protocols",
         "direct_source_prefix_ranges", "source_type", "source_prefix_ranges", "source_ports")
    ),
    "envoy.config.core.v3.CidrRange": frozenset(("address_prefix", "prefix_len")),
    "envoy.config.core.v3.SocketOption": frozenset(
        ("description", "level", "name", "int_value", "buf_value", "state")
    ),
    _L + "Filter": frozenset(("name", "typed_config")),
    "envoy.config.core.v3.Metadata": OPAQUE,
    "envoy.config.core.v3.TransportSocket": frozenset(("name", "typed_config")),
    **ADDRESS,
    **access_log.SUPPORTED,
}  # fmt: skip
_FILTERS_TIMEOUT_S = 15.0
_IP_FREEBIND, _IP_TRANSPARENT = 15, 19  # linux/in.h, linux/in6.h
_IPV6_FREEBIND, _IPV6_TRANSPARENT = 78, 75


@dataclass(frozen=True, slots=True)
class CompiledListener:
    config: ListenerConfig
    contexts: tuple[tls.ContextPlan, ...]
    log_services: frozenset[LogService]


def compile_listener(listener: Any, node: Node, stats: Stats, files: LogFiles, place: Place) -> CompiledListener:
    """Raises Refused."""
    check(listener, SUPPORTED, place)
    addresses = [socket_address(listener.address, place.at("address"))]
    for index, more in enumerate(listener.additional_addresses):
        addresses.append(socket_address(more.address, place.at(f"additional_addresses[{index}].address")))
    around = http.Surroundings(
        node,
        stats,
        files,
        listener.traffic_direction == INBOUND,
        value_or(listener, "per_connection_buffer_limit_bytes", 1024 * 1024),
        listener.traffic_direction == OUTBOUND,
    )
    plans: list[tls.ContextPlan] = []
    chains = tuple(
        _chain(chain, around, place.at(f"filter_chains[{index}]"), plans)
        for index, chain in enumerate(listener.filter_chains)
    )
    default = None
    if listener.HasField("default_filter_chain"):
        default = _chain(listener.default_filter_chain, around, place.at("default_filter_chain"), plans)
    if not chains and default is None:
        raise place.refuse("at least one filter chain is required", "filter_chains")
    try:
        find = chain_finder(chains, default)
    except Overlap as error:
        raise place.refuse(str(error), "filter_chains") from error
    ip, port = addresses[0]
    name = listener.stat_prefix or f"{ip}_{port}".replace(":", "_")
    return CompiledListener(
        ListenerConfig(
            name=listener.name,
            addresses=tuple(addresses),
            chains=chains,
            default_chain=default,
            find=find,
            filters=_filters(listener, (*chains, *([default] if default is not None else ())), stats, place),
            filters_timeout=seconds_or(listener, "listener_filters_timeout", _FILTERS_TIMEOUT_S),
            continues_on_timeout=listener.continue_on_listener_filters_timeout,
            uses_original_dst=listener.use_original_dst.value,
            binds=value_or(listener, "bind_to_port", True),
            ignores_global_limit=listener.ignore_global_conn_limit,
            drains_when_failing=listener.drain_type == Listener.DEFAULT,
            socket_options=_socket_options(listener),
            stats=stats.group(ListenerStats, f"listener.{name}", (("envoy.listener_address", name),)),
            log_steps=log_steps(listener.access_log, around, place, tcp=True),
        ),
        tuple(plans),
        frozenset(around.log_services),
    )


def _filters(listener: Any, chains: Iterable[FilterChain], stats: Stats, place: Place) -> tuple[ListenerFilter, ...]:
    """As configured, and at their end those that Envoy adds too.

    `use_original_dst` asks for the destination; chains that cannot do without it, for the TLS inspector.
    """
    filters = compile_listener_filters(listener.listener_filters, stats, place)
    if listener.use_original_dst.value:
        filters = (*filters, OriginalDst())
    if any(map(_wants_hello, chains)) and not any(isinstance(each, TlsInspector) for each in filters):
        return (*filters, tls_inspector(stats))
    return filters


def _wants_hello(chain: FilterChain) -> bool:
    match = chain.match
    if chain.tls is not None and chain.tls.needs_name:
        return True
    if match.transport_protocol:
        return match.transport_protocol == "tls"
    return bool(match.server_names or match.application_protocols)


def _socket_options(listener: Any) -> SocketOptions:
    is_v6 = ":" in listener.address.socket_address.address
    before_bind: list[Option] = []
    bound: list[Option] = []
    listening: list[Option] = []
    if listener.transparent.value:
        before_bind.append((socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1) if is_v6 else (0, _IP_TRANSPARENT, 1))
    if listener.freebind.value:
        before_bind.append((socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1) if is_v6 else (0, _IP_FREEBIND, 1))
    if listener.HasField("tcp_fast_open_queue_length"):
        listening.append((socket.IPPROTO_TCP, socket.TCP_FASTOPEN, listener.tcp_fast_open_queue_length.value))
    for option in listener.socket_options:
        value = option.buf_value if option.WhichOneof("value") == "buf_value" else option.int_value
        (before_bind, bound, listening)[option.state].append((option.level, option.name, value))
    backlog = value_or(listener, "tcp_backlog_size", BACKLOG)
    return SocketOptions(tuple(before_bind), tuple(bound), tuple(listening), backlog)


def _chain(chain: Any, around: http.Surroundings, place: Place, plans: list[tls.ContextPlan]) -> FilterChain:
    if not chain.filters:
        raise place.refuse("a network filter is required", "filters")
    *before, network = chain.filters
    inside = place.at(f"filters[{len(before)}].typed_config")
    kind = network.typed_config.TypeName()
    transport, plan = tls.server_tls(chain.transport_socket, place.at("transport_socket"))
    if plan is not None:
        plans.append(plan)
    match = _match(chain.filter_chain_match, place.at("filter_chain_match"))
    if kind == http.TYPE:
        config: Any = http.compile_http(network.typed_config, around, inside)
    elif kind == tcp.TYPE:
        config = tcp.compile_tcp(network.typed_config, around, inside)
        config.chain_name = chain.name
    else:
        raise inside.refuse(f"network filter {network.name} ({kind or 'no typed_config'}) is not supported as the last")
    before = _with_metrics(before, config, around, place)
    filters = compile_network_filters(before, around.stats, place)
    timeout = seconds_or(chain, "transport_socket_connect_timeout", 0.0)
    source = chain.SerializeToString(deterministic=True)
    return FilterChain(chain.name, match, transport, timeout, filters, config, source)


def _with_metrics(before: list[Any], config: Any, around: http.Surroundings, place: Place) -> list[Any]:
    """The network filters without `istio.stats`, which instead counts the connections of the chain's tcp_proxy."""
    kept = []
    for index, each in enumerate(before):
        if each.name != istio_stats.NAME or each.typed_config.TypeName() not in TYPED_STRUCTS:
            kept.append(each)
        elif isinstance(config, TcpConfig):
            inside = place.at(f"filters[{index}].typed_config")
            opened, closed = istio_stats.tcp_steps(
                each.typed_config, around.node, around.is_inbound, around.stats, inside
            )
            config.connected_steps = (*config.connected_steps, opened)
            config.finish_steps = (closed, *config.finish_steps)
    return kept


def _match(match: Any, place: Place) -> ChainMatch:
    if match.transport_protocol not in ("", "tls", "raw_buffer"):
        raise place.refuse("only tls and raw_buffer are known", "transport_protocol")
    for name in match.server_names:
        if "*" in name.removeprefix("*."):
            raise place.refuse(f"partial wildcard {name!r}", "server_names")
    return ChainMatch(
        value_or(match, "destination_port", 0),
        networks(match.prefix_ranges, place.at("prefix_ranges")),
        tuple(name.lower() for name in match.server_names),
        match.transport_protocol,
        tuple(match.application_protocols),
        networks(match.direct_source_prefix_ranges, place.at("direct_source_prefix_ranges")),
        match.source_type,
        networks(match.source_prefix_ranges, place.at("source_prefix_ranges")),
        tuple(match.source_ports),
    )
