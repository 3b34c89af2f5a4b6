"""Network filters before the last one of a chain, from their protobufs: a table of types and of what makes each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from envoy.extensions.filters.network.connection_limit.v3.connection_limit_pb2 import (
    ConnectionLimit as ConnectionLimitMessage,
)
from envoy.extensions.filters.network.sni_cluster.v3.sni_cluster_pb2 import SniCluster as SniClusterMessage

from mesh.proxy.downstream.network_filters.connection_limit import ConnectionLimit
from mesh.proxy.downstream.network_filters.network_filter import NetworkFilter
from mesh.proxy.downstream.network_filters.sni_cluster import SniCluster
from mesh.proxy.fields import Place, check
from mesh.proxy.observe.downstream_counters import ConnectionLimitStats
from mesh.proxy.observe.stats import Stats

_F = "envoy.extensions.filters.network."
_RBAC = _F + "rbac.v3.RBAC"
SUPPORTED = {
    _F + "connection_limit.v3.ConnectionLimit": frozenset(("stat_prefix", "max_connections")),
    _F + "sni_cluster.v3.SniCluster": frozenset(),
}


def compile_network_filters(filters: Iterable[Any], stats: Stats, place: Place) -> tuple[NetworkFilter, ...]:
    """In their order. Raises Refused."""
    return tuple(_filter(each, stats, place.at(f"filters[{index}]")) for index, each in enumerate(filters))


def _filter(message: Any, stats: Stats, place: Place) -> NetworkFilter:
    inside = place.at("typed_config")
    name = message.typed_config.TypeName()
    if name == _RBAC:
        module = importlib.import_module("mesh.proxy.compile.network_rbac")
        made: NetworkFilter = module.compile_network_rbac(message.typed_config, stats, inside)
        return made
    entry = _KINDS.get(name)
    if entry is None:
        raise inside.refuse(f"network filter {message.name} ({name or 'no typed_config'}) is not supported")
    kind, make = entry
    config = kind()
    message.typed_config.Unpack(config)
    check(config, SUPPORTED, inside)
    return make(config, stats, inside)


def _connection_limit(config: Any, stats: Stats, place: Place) -> NetworkFilter:
    if not config.max_connections.value:
        raise place.refuse("must be at least 1", "max_connections")
    prefix = config.stat_prefix
    tags = (("envoy.connection_limit_prefix", prefix),)
    group = stats.group(ConnectionLimitStats, f"connection_limit.{prefix}", tags)
    return ConnectionLimit(group, config.max_connections.value)


def _sni_cluster(config: Any, stats: Stats, place: Place) -> NetworkFilter:
    return SniCluster()


_Make = Callable[[Any, Stats, Place], NetworkFilter]
_KINDS: Mapping[str, tuple[Any, _Make]] = {
    kind.DESCRIPTOR.full_name: (kind, make)
    for kind, make in ((ConnectionLimitMessage, _connection_limit), (SniClusterMessage, _sni_cluster))
}
