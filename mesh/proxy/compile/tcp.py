"""TcpProxy to TcpConfig."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy

from mesh.proxy.compile.access_log import log_steps
from mesh.proxy.compile.values import seconds_or, unpack, value_or, write_limit
from mesh.proxy.downstream.tcp import TcpConfig
from mesh.proxy.fields import OPAQUE, Place, check
from mesh.proxy.observe.downstream_counters import TcpStats

if TYPE_CHECKING:
    from mesh.proxy.compile.http import Surroundings

_P = "envoy.extensions.filters.network.tcp_proxy.v3."
TYPE = TcpProxy.DESCRIPTOR.full_name
SUPPORTED = {
    _P + "TcpProxy": frozenset(
        ("stat_prefix", "cluster", "weighted_clusters", "idle_timeout", "access_log", "max_connect_attempts",
         "hash_policy", "max_downstream_connection_duration", "max_downstream_connection_duration_jitter_percentage")
    ),
    "envoy.type.v3.HashPolicy": frozenset(("source_ip",)),
    "envoy.type.v3.HashPolicy.SourceIp": frozenset(),
    "envoy.type.v3.Percent": frozenset(("value",)),
    _P + "TcpProxy.WeightedCluster": frozenset(("clusters",)),
    _P + "TcpProxy.WeightedCluster.ClusterWeight": frozenset(("name", "weight")),
    "envoy.config.accesslog.v3.AccessLog": OPAQUE,  # checked with its own table
}  # fmt: skip


def compile_tcp(packed: Any, around: Surroundings, place: Place) -> TcpConfig:
    """Raises Refused."""
    config = unpack(packed, TcpProxy, place)
    check(config, SUPPORTED, place)
    clusters: tuple[tuple[str, int], ...] = ((config.cluster, 1),)
    if config.WhichOneof("cluster_specifier") == "weighted_clusters":
        clusters = tuple((cluster.name, cluster.weight) for cluster in config.weighted_clusters.clusters)
    total = sum(weight for _, weight in clusters)
    if total == 0 or not clusters[0][0]:
        raise place.refuse("one of cluster, weighted_clusters is required")
    prefix = config.stat_prefix
    return TcpConfig(
        stats=around.stats.group(TcpStats, f"tcp.{prefix}", (("envoy.tcp_prefix", prefix),)),
        clusters=clusters,
        total_weight=total,
        max_duration=seconds_or(config, "max_downstream_connection_duration", 0.0),
        max_duration_jitter=config.max_downstream_connection_duration_jitter_percentage.value / 100,
        hashes_source_ip=len(config.hash_policy) > 0,
        idle_timeout=seconds_or(config, "idle_timeout", 3600.0),
        write_limit=write_limit(around.buffer_limit),
        max_connect_attempts=value_or(config, "max_connect_attempts", 1),
        finish_steps=log_steps(config.access_log, around, place, tcp=True),
    )
