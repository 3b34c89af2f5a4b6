"""Load balancing policies, in both of the ways in which a Cluster can name one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

from mesh.proxy import message_types
from mesh.proxy.compile.values import seconds, value_or
from mesh.proxy.fields import OPAQUE, Place, check
from mesh.proxy.upstream.balancing import policies
from mesh.proxy.upstream.balancing.arrangement import LoadBalancing
from mesh.proxy.upstream.balancing.balancer import Make
from mesh.proxy.upstream.balancing.digests import murmur2, xxh64
from mesh.proxy.upstream.balancing.hashing import Bounded, Maglev, MaglevFillings, MakeHashed, Ring, Share
from mesh.proxy.upstream.balancing.slow_start import SlowStart

_C = "envoy.config.cluster.v3."
_P = "envoy.extensions.load_balancing_policies."
_ROUND_ROBIN = _P + "round_robin.v3.RoundRobin"
_LEAST_REQUEST = _P + "least_request.v3.LeastRequest"
_RANDOM = _P + "random.v3.Random"
_RING_HASH = _P + "ring_hash.v3.RingHash"
_MAGLEV = _P + "maglev.v3.Maglev"
_CLUSTER_PROVIDED = _P + "cluster_provided.v3.ClusterProvided"
_SLOW_START = ("slow_start_window", "aggression", "min_weight_percent")

SUPPORTED = {
    _C + "Cluster.LeastRequestLbConfig": frozenset(("choice_count", "active_request_bias", "slow_start_config")),
    _C + "Cluster.RoundRobinLbConfig": frozenset(("slow_start_config",)),
    _C + "Cluster.RingHashLbConfig": frozenset(("minimum_ring_size", "hash_function", "maximum_ring_size")),
    _C + "Cluster.MaglevLbConfig": frozenset(("table_size",)),
    _C + "Cluster.SlowStartConfig": frozenset(_SLOW_START),
    _C + "Cluster.CommonLbConfig": frozenset(
        ("healthy_panic_threshold", "update_merge_window", "zone_aware_lb_config", "locality_weighted_lb_config",
         "close_connections_on_host_set_change", "consistent_hashing_lb_config", "ignore_new_hosts_until_first_hc")
    ),
    # Zones are routed by where bootstraps name a local cluster, and those are refused: nothing is left to do.
    _C + "Cluster.CommonLbConfig.ZoneAwareLbConfig": frozenset(
        ("routing_enabled", "min_cluster_size", "fail_traffic_on_panic")
    ),
    _C + "Cluster.CommonLbConfig.LocalityWeightedLbConfig": frozenset(),
    _C + "Cluster.CommonLbConfig.ConsistentHashingLbConfig": frozenset(
        ("use_hostname_for_hashing", "hash_balance_factor")
    ),
    _C + "LoadBalancingPolicy": frozenset(("policies",)),
    _C + "LoadBalancingPolicy.Policy": frozenset(("typed_extension_config",)),
    "envoy.config.core.v3.TypedExtensionConfig": frozenset(("name", "typed_config")),
    "envoy.config.core.v3.RuntimeDouble": OPAQUE,  # there is no runtime to change it: its default holds
    "envoy.type.v3.Percent": frozenset(("value",)),
    _ROUND_ROBIN: frozenset(("slow_start_config", "locality_lb_config")),
    _LEAST_REQUEST: frozenset(
        ("choice_count", "active_request_bias", "slow_start_config", "locality_lb_config", "enable_full_scan",
         "selection_method")
    ),
    _RANDOM: frozenset(("locality_lb_config",)),
    _RING_HASH: frozenset(
        ("hash_function", "minimum_ring_size", "maximum_ring_size", "use_hostname_for_hashing", "hash_balance_factor",
         "consistent_hashing_lb_config", "locality_weighted_lb_config")
    ),
    _MAGLEV: frozenset(("table_size", "consistent_hashing_lb_config", "locality_weighted_lb_config")),
    _CLUSTER_PROVIDED: frozenset(),
    _P + "common.v3.SlowStartConfig": frozenset(_SLOW_START),
    _P + "common.v3.LocalityLbConfig": frozenset(("zone_aware_lb_config", "locality_weighted_lb_config")),
    _P + "common.v3.LocalityLbConfig.ZoneAwareLbConfig": frozenset(
        ("routing_enabled", "min_cluster_size", "fail_traffic_on_panic")
    ),
    _P + "common.v3.LocalityLbConfig.LocalityWeightedLbConfig": frozenset(),
    _P + "common.v3.ConsistentHashingLbConfig": frozenset(("use_hostname_for_hashing", "hash_balance_factor")),
}  # fmt: skip
_MURMUR = 2  # HashFunction.MURMUR_HASH_2, in both enumerations of it
_MAX_RING = 8 * 1024 * 1024
_MAX_TABLE = 5_000_011


def compile_load_balancing(cluster: Any, place: Place) -> LoadBalancing:
    """The policy of a Cluster whose fields have been checked. Raises Refused."""
    common = cluster.common_lb_config
    threshold = common.healthy_panic_threshold.value if common.HasField("healthy_panic_threshold") else 50.0
    base = LoadBalancing(panic_threshold=min(100, round(threshold)))
    if seconds(common.update_merge_window) > 0:
        raise place.refuse("only 0s is supported: changes of hosts take effect at once",
                           "common_lb_config.update_merge_window")  # fmt: skip
    if common.consistent_hashing_lb_config.use_hostname_for_hashing and cluster.type != Cluster.STRICT_DNS:
        raise place.refuse("only STRICT_DNS clusters have hostnames to hash",
                           "common_lb_config.consistent_hashing_lb_config.use_hostname_for_hashing")  # fmt: skip
    if cluster.HasField("load_balancing_policy"):
        return _extension(base, cluster.load_balancing_policy, place.at("load_balancing_policy"))
    base = replace(
        base,
        is_locality_weighted=common.HasField("locality_weighted_lb_config"),
        fails_in_panic=common.zone_aware_lb_config.fail_traffic_on_panic,
    )
    return _by_enum(base, cluster, place)


def _by_enum(base: LoadBalancing, cluster: Any, place: Place) -> LoadBalancing:
    policy = cluster.lb_policy
    hashing = cluster.common_lb_config.consistent_hashing_lb_config
    if policy == Cluster.ROUND_ROBIN:
        return replace(base, make=_round_robin(cluster.round_robin_lb_config, place.at("round_robin_lb_config")))
    if policy == Cluster.LEAST_REQUEST:
        return replace(base, make=_least_request(cluster.least_request_lb_config, place.at("least_request_lb_config")))
    if policy == Cluster.RANDOM:
        return replace(base, make=policies.random_choice)
    if policy == Cluster.RING_HASH:
        config, inside = cluster.ring_hash_lb_config, place.at("ring_hash_lb_config")
        # Here alone the enumeration begins with XX_HASH.
        return _hashed(base, _ring(config, config.hash_function == 1, inside), hashing, place.at("common_lb_config"))
    if policy == Cluster.MAGLEV:
        make = _maglev(cluster.maglev_lb_config, place.at("maglev_lb_config"))
        return _hashed(base, make, hashing, place.at("common_lb_config"))
    if policy == Cluster.CLUSTER_PROVIDED:
        return base
    raise place.refuse("not supported by this sidecar", "lb_policy")


def _extension(base: LoadBalancing, config: Any, place: Place) -> LoadBalancing:
    """The first policy of the list that is known here, as the API has it."""
    names = []
    for index, policy in enumerate(config.policies):
        packed = policy.typed_extension_config.typed_config
        name = packed.type_url.rpartition("/")[2]
        names.append(name)
        if name in _POLICIES:
            inside = place.at(f"policies[{index}].typed_extension_config.typed_config")
            message_types.load(packed.type_url)
            message = GetMessageClass(Default().FindMessageTypeByName(name))()
            packed.Unpack(message)
            check(message, SUPPORTED, inside)
            return _POLICIES[name](_with_localities(base, message), message, inside)
    raise place.refuse(f"none of {', '.join(names) or 'no policies'} is supported by this sidecar")


def _with_localities(base: LoadBalancing, message: Any) -> LoadBalancing:
    fields = message.DESCRIPTOR.fields_by_name
    if "locality_lb_config" in fields:
        locality = message.locality_lb_config
        return replace(
            base,
            is_locality_weighted=locality.HasField("locality_weighted_lb_config"),
            fails_in_panic=locality.zone_aware_lb_config.fail_traffic_on_panic,
        )
    if "locality_weighted_lb_config" in fields:
        return replace(base, is_locality_weighted=message.HasField("locality_weighted_lb_config"))
    return base


def _round_robin(config: Any, place: Place) -> Make:
    return _slowly(policies.round_robin, policies.plain_weight, config, place)


def _least_request(config: Any, place: Place) -> Make:
    choices = value_or(config, "choice_count", 2)
    if choices < 2:
        raise place.refuse("must be at least 2", "choice_count")
    bias = config.active_request_bias.default_value if config.HasField("active_request_bias") else 1.0
    if bias < 0:
        raise place.refuse("must not be negative", "active_request_bias.default_value")
    is_full = False
    if "selection_method" in config.DESCRIPTOR.fields_by_name:
        is_full = config.selection_method == 1 or config.enable_full_scan.value
    make = policies.least_request(choices, bias, is_full_scan=is_full)
    return _slowly(make, policies.loaded_weight(bias), config, place)


def _slowly(make: Make, weigh: policies.Weigh, config: Any, place: Place) -> Make:
    slow = config.slow_start_config
    window = seconds(slow.slow_start_window)
    if window <= 0:
        return make
    aggression = slow.aggression.default_value if slow.HasField("aggression") else 1.0
    if aggression <= 0:
        raise place.refuse("must be greater than 0", "slow_start_config.aggression.default_value")
    least = slow.min_weight_percent.value / 100 if slow.HasField("min_weight_percent") else 0.1
    return policies.slowly_started(make, weigh, SlowStart(window, time.monotonic, aggression, least))


def _ring(config: Any, is_murmur: bool, place: Place) -> MakeHashed:
    least = value_or(config, "minimum_ring_size", 1024)
    most = value_or(config, "maximum_ring_size", _MAX_RING)
    if max(least, most) > _MAX_RING:
        raise place.refuse(f"at most {_MAX_RING}", "minimum_ring_size" if least > _MAX_RING else "maximum_ring_size")
    if least > most:
        raise place.refuse(f"minimum_ring_size ({least}) > maximum_ring_size ({most})", "minimum_ring_size")
    digest: Callable[[bytes], int] = murmur2 if is_murmur else xxh64
    return lambda shares: Ring(shares, least, most, digest)


def _maglev(config: Any, place: Place) -> MakeHashed:
    size = value_or(config, "table_size", 65537)
    if size > _MAX_TABLE:
        raise place.refuse(f"at most {_MAX_TABLE}", "table_size")
    if not _is_prime(size):
        raise place.refuse("the table size of maglev must be prime number", "table_size")
    known = MaglevFillings()
    return lambda shares: Maglev(shares, size, known)


def _hashed(base: LoadBalancing, make: MakeHashed, config: Any, place: Place) -> LoadBalancing:
    """Hashing as `make` does it, with what a ConsistentHashingLbConfig adds."""
    factor = value_or(config, "hash_balance_factor", 0)
    if 0 < factor < 100:
        raise place.refuse("must be 0 or at least 100", "consistent_hashing_lb_config.hash_balance_factor")
    return replace(
        base,
        make_hashed=partial(_bounded, make, factor) if factor else lambda _: make,
        uses_hostnames=config.use_hostname_for_hashing,
    )


def _bounded(make: MakeHashed, factor: int, active: Callable[[], int]) -> MakeHashed:
    def bounded(shares: Sequence[Share]) -> Bounded:
        return Bounded(make(shares), shares, factor, active)

    return bounded


def _typed_ring(base: LoadBalancing, config: Any, place: Place) -> LoadBalancing:
    hashing = config.consistent_hashing_lb_config
    if not config.HasField("consistent_hashing_lb_config"):
        hashing = type(hashing)(use_hostname_for_hashing=config.use_hostname_for_hashing)
        if config.HasField("hash_balance_factor"):
            hashing.hash_balance_factor.value = config.hash_balance_factor.value
    return _hashed(base, _ring(config, config.hash_function == _MURMUR, place), hashing, place)


def _typed_maglev(base: LoadBalancing, config: Any, place: Place) -> LoadBalancing:
    return _hashed(base, _maglev(config, place), config.consistent_hashing_lb_config, place)


_POLICIES: dict[str, Callable[[LoadBalancing, Any, Place], LoadBalancing]] = {
    _ROUND_ROBIN: lambda base, config, place: replace(base, make=_round_robin(config, place)),
    _LEAST_REQUEST: lambda base, config, place: replace(base, make=_least_request(config, place)),
    _RANDOM: lambda base, config, place: replace(base, make=policies.random_choice),
    _RING_HASH: _typed_ring,
    _MAGLEV: _typed_maglev,
    _CLUSTER_PROVIDED: lambda base, config, place: base,
}


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
