"""Listener filters, from their protobufs: a table of types and of what makes each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from envoy.extensions.filters.listener.http_inspector.v3.http_inspector_pb2 import HttpInspector as HttpInspectorMessage
from envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2 import OriginalDst as OriginalDstMessage
from envoy.extensions.filters.listener.proxy_protocol.v3.proxy_protocol_pb2 import ProxyProtocol as ProxyProtocolMessage
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector as TlsInspectorMessage

from mesh.proxy.compile.values import value_or
from mesh.proxy.downstream.listener_filters.http_inspector import HttpInspector
from mesh.proxy.downstream.listener_filters.listener_filter import ListenerFilter, Spares
from mesh.proxy.downstream.listener_filters.original_dst import OriginalDst
from mesh.proxy.downstream.listener_filters.proxy_protocol import ProxyProtocol
from mesh.proxy.downstream.listener_filters.tls_inspector import LARGEST_HELLO, TlsInspector
from mesh.proxy.fields import Place, check
from mesh.proxy.observe.downstream_counters import HttpInspectorStats, ProxyProtocolStats, TlsInspectorStats
from mesh.proxy.observe.stats import Stats

_P = "envoy.config.listener.v3.ListenerFilterChainMatchPredicate"
_F = "envoy.extensions.filters.listener."
SUPPORTED = {
    "envoy.config.listener.v3.ListenerFilter": frozenset(("name", "typed_config", "filter_disabled")),
    _P: frozenset(("or_match", "and_match", "not_match", "any_match", "destination_port_range")),
    _P + ".MatchSet": frozenset(("rules",)),
    "envoy.type.v3.Int32Range": frozenset(("start", "end")),
    _F + "http_inspector.v3.HttpInspector": frozenset(),
    _F + "original_dst.v3.OriginalDst": frozenset(),
    _F + "proxy_protocol.v3.ProxyProtocol": frozenset(
        ("allow_requests_without_proxy_protocol", "disallowed_versions", "stat_prefix")
    ),
    _F + "tls_inspector.v3.TlsInspector": frozenset(("initial_read_buffer_size", "max_client_hello_size")),
}


def compile_listener_filters(filters: Any, stats: Stats, place: Place) -> tuple[ListenerFilter, ...]:
    """In their order. Raises Refused."""
    return tuple(_filter(each, stats, place.at(f"listener_filters[{index}]")) for index, each in enumerate(filters))


def _filter(message: Any, stats: Stats, place: Place) -> ListenerFilter:
    check(message, SUPPORTED, place)
    entry = _KINDS.get(message.typed_config.TypeName())
    if entry is None:
        raise place.refuse(f"listener filter {message.name} is not supported by this sidecar")
    kind, make = entry
    config = kind()
    message.typed_config.Unpack(config)
    check(config, SUPPORTED, place.at("typed_config"))
    made = make(config, stats)
    if message.HasField("filter_disabled"):
        made.spares = _predicate(message.filter_disabled, place.at("filter_disabled"))
    return made


def _predicate(config: Any, place: Place) -> Spares:
    kind = config.WhichOneof("rule")
    if kind in ("or_match", "and_match"):
        rules = [_predicate(rule, place.at(f"{kind}.rules[{i}]")) for i, rule in enumerate(getattr(config, kind).rules)]
        some = any if kind == "or_match" else all
        return lambda info: some(rule(info) for rule in rules)
    if kind == "not_match":
        spared = _predicate(config.not_match, place.at("not_match"))
        return lambda info: not spared(info)
    if kind == "destination_port_range":
        ports = range(config.destination_port_range.start, config.destination_port_range.end)
        return lambda info: info.local[1] in ports
    if kind != "any_match":
        raise place.refuse("a rule is required")
    return lambda info: True


def tls_inspector(stats: Stats, largest: int = LARGEST_HELLO) -> ListenerFilter:
    """With limits of its own, for a listener that needs one."""
    return TlsInspector(stats.group(TlsInspectorStats, "tls_inspector"), largest)


def _tls_inspector(config: Any, stats: Stats) -> ListenerFilter:
    return tls_inspector(stats, value_or(config, "max_client_hello_size", LARGEST_HELLO))


def _proxy_protocol(config: Any, stats: Stats) -> ListenerFilter:
    prefix = f"proxy_proto.{config.stat_prefix}" if config.stat_prefix else "proxy_proto"
    return ProxyProtocol(
        stats.group(ProxyProtocolStats, prefix),
        optional=config.allow_requests_without_proxy_protocol,
        disallowed=frozenset(each + 1 for each in config.disallowed_versions),
    )


def _http_inspector(config: Any, stats: Stats) -> ListenerFilter:
    return HttpInspector(stats.group(HttpInspectorStats, "http_inspector"))


def _original_dst(config: Any, stats: Stats) -> ListenerFilter:
    return OriginalDst()


_Make = Callable[[Any, Stats], ListenerFilter]
_KINDS: Mapping[str, tuple[Any, _Make]] = {
    kind.DESCRIPTOR.full_name: (kind, make)
    for kind, make in (
        (TlsInspectorMessage, _tls_inspector),
        (ProxyProtocolMessage, _proxy_protocol),
        (OriginalDstMessage, _original_dst),
        (HttpInspectorMessage, _http_inspector),
    )
}
