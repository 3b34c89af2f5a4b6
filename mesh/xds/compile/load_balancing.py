"""A cluster's balancer, by Istio's mapping of `loadBalancer` onto Envoy's fields."""

from __future__ import annotations

from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster

from mesh.api.destination_rule import ConsistentHashLB, LoadBalancerSettings, SimpleLB
from mesh.xds.compile.messages import duration

_LB: Final = {SimpleLB.RANDOM: Cluster.RANDOM, SimpleLB.ROUND_ROBIN: Cluster.ROUND_ROBIN}
_MINIMUM_RING: Final = 1024
"""Istio's, where the ring is asked for by the older field or not at all."""
_WARMUP_PERCENT: Final = 10


def apply_balancer(cluster: Cluster, settings: LoadBalancerSettings | None) -> None:
    """LEAST_REQUEST where nothing is said."""
    settings = settings or LoadBalancerSettings()
    locality = settings.locality_lb_setting
    if locality is not None and locality.distribute and locality.enabled is not False:
        cluster.common_lb_config.locality_weighted_lb_config.SetInParent()
    if settings.consistent_hash is not None:
        _hash(cluster, settings.consistent_hash)
        return
    cluster.lb_policy = _LB.get(settings.simple or SimpleLB.UNSPECIFIED, Cluster.LEAST_REQUEST)
    _warm_up(cluster, settings)


def _hash(cluster: Cluster, hashing: ConsistentHashLB) -> None:
    if hashing.maglev is not None:
        cluster.lb_policy = Cluster.MAGLEV
        cluster.maglev_lb_config.table_size.value = hashing.maglev.table_size
        return
    cluster.lb_policy = Cluster.RING_HASH
    asked = hashing.ring_hash.minimum_ring_size if hashing.ring_hash is not None else hashing.minimum_ring_size
    if asked or hashing.ring_hash is None:
        cluster.ring_hash_lb_config.minimum_ring_size.value = asked or _MINIMUM_RING


def _warm_up(cluster: Cluster, settings: LoadBalancerSettings) -> None:
    """RANDOM has no such thing in Envoy; Istio passes it over there too."""
    warmup, window = settings.warmup, settings.warmup_duration_secs
    if cluster.lb_policy == Cluster.RANDOM or (warmup is None and window is None):
        return
    is_round_robin = cluster.lb_policy == Cluster.ROUND_ROBIN
    config = (cluster.round_robin_lb_config if is_round_robin else cluster.least_request_lb_config).slow_start_config
    if warmup is None:
        assert window is not None
        config.slow_start_window.CopyFrom(duration(window))
        return
    assert warmup.duration is not None, "validated"
    config.slow_start_window.CopyFrom(duration(warmup.duration))
    config.aggression.default_value = 1.0 if warmup.aggression is None else warmup.aggression
    config.aggression.runtime_key = "warmup.aggression"  # Envoy wants one; nobody sets it
    config.min_weight_percent.value = _WARMUP_PERCENT if warmup.minimum_percent is None else warmup.minimum_percent
