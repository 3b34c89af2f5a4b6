"""Listener to ListenerConfig: addresses, filter chains and what serves each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from envoy.config.core.v3.base_pb2 import INBOUND, Node
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector

from mesh.proxy.access_log import LogFiles
from mesh.proxy.compile import http, tcp, tls
from mesh.proxy.compile.values import ADDRESS, seconds_or, socket_address, value_or
from mesh.proxy.counters import ListenerStats
from mesh.proxy.fields import OPAQUE, Place, check
from mesh.proxy.filter_chain import ChainMatch, FilterChain, ListenerConfig
from mesh.proxy.stats import Stats

_L = "envoy.config.listener.v3."
SUPPORTED = {
    _L + "Listener": frozenset(
        ("name", "address", "additional_addresses", "stat_prefix", "filter_chains", "default_filter_chain",
         "per_connection_buffer_limit_bytes", "metadata", "listener_filters", "listener_filters_timeout",
         "continue_on_listener_filters_timeout", "traffic_direction", "enable_reuse_port", "drain_type")
    ),
    _L + "AdditionalAddress": frozenset(("address",)),
    _L + "ListenerFilter": frozenset(("name", "typed_config")),
    _L + "FilterChain": frozenset(("filter_chain_match", "filters", "transport_socket", "name", "metadata")),
    _L + "FilterChainMatch": frozenset(
        ("destination_port", "server_names", "transport_protocol", "application_protocols")
    ),
    _L + "Filter": frozenset(("name", "typed_config")),
    "envoy.config.core.v3.Metadata": OPAQUE,
    "envoy.config.core.v3.TransportSocket": frozenset(("name", "typed_config")),
    "envoy.config.core.v3.TrafficDirection": OPAQUE,
    **ADDRESS,
}  # fmt: skip
_INSPECTION_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class CompiledListener:
    config: ListenerConfig
    contexts: tuple[tls.ContextPlan, ...]


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
    _unique(chains, place)
    ip, port = addresses[0]
    name = listener.stat_prefix or f"{ip}_{port}".replace(":", "_")
    return CompiledListener(
        ListenerConfig(
            name=listener.name,
            addresses=tuple(addresses),
            chains=chains,
            default_chain=default,
            inspects_tls=_inspects_tls(listener, place),
            inspection_timeout=seconds_or(listener, "listener_filters_timeout", _INSPECTION_TIMEOUT_S),
            stats=stats.group(ListenerStats, f"listener.{name}", (("envoy.listener_address", name),)),
        ),
        tuple(plans),
    )


def _inspects_tls(listener: Any, place: Place) -> bool:
    for index, each in enumerate(listener.listener_filters):
        if not each.typed_config.Is(TlsInspector.DESCRIPTOR):
            raise place.refuse(f"listener filter {each.name} is not supported", f"listener_filters[{index}]")
    return len(listener.listener_filters) > 0


def _chain(chain: Any, around: http.Surroundings, place: Place, plans: list[tls.ContextPlan]) -> FilterChain:
    if len(chain.filters) != 1:
        raise place.refuse("exactly one network filter is supported", "filters")
    network = chain.filters[0]
    inside = place.at("filters[0].typed_config")
    kind = network.typed_config.TypeName()
    transport, plan = tls.server_tls(chain.transport_socket, place.at("transport_socket"))
    if plan is not None:
        plans.append(plan)
    match = chain.filter_chain_match
    if match.transport_protocol not in ("", "tls", "raw_buffer"):
        raise place.refuse("only tls and raw_buffer are known", "filter_chain_match.transport_protocol")
    compiled_match = ChainMatch(
        value_or(match, "destination_port", 0),
        tuple(name.lower() for name in match.server_names),
        match.transport_protocol,
        tuple(match.application_protocols),
    )
    if kind == http.TYPE:
        config: Any = http.compile_http(network.typed_config, around, inside)
    elif kind == tcp.TYPE:
        config = tcp.compile_tcp(network.typed_config, around, inside)
    else:
        raise inside.refuse(f"network filter {network.name} ({kind or 'no typed_config'}) is not supported")
    return FilterChain(chain.name, compiled_match, transport, config, chain.SerializeToString(deterministic=True))


def _unique(chains: tuple[FilterChain, ...], place: Place) -> None:
    seen: set[ChainMatch] = set()
    for index, chain in enumerate(chains):
        if chain.match in seen:
            raise place.refuse("another chain matches the same", f"filter_chains[{index}].filter_chain_match")
        seen.add(chain.match)
