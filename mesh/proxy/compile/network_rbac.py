"""The network RBAC filter from its protobuf. Imported when a chain first has one: its messages are many."""

from __future__ import annotations

from typing import Any

from envoy.extensions.filters.network.rbac.v3.rbac_pb2 import RBAC

from mesh.proxy.compile.rbac import TCP, compile_rules
from mesh.proxy.compile.values import unpack
from mesh.proxy.downstream.network_filters.network_filter import NetworkFilter
from mesh.proxy.downstream.network_filters.rbac import NetworkRbac
from mesh.proxy.fields import OPAQUE, Place, check
from mesh.proxy.observe.counters import NamedCounters
from mesh.proxy.observe.stats import Stats
from mesh.proxy.policy.rbac import Control, Counts

SUPPORTED = {
    "envoy.extensions.filters.network.rbac.v3.RBAC": frozenset(
        ("rules", "shadow_rules", "shadow_rules_stat_prefix", "stat_prefix", "enforcement_type")
    ),
    "envoy.config.rbac.v3.RBAC": OPAQUE,  # compiled with its own table
}


def compile_network_rbac(packed: Any, stats: Stats, place: Place) -> NetworkFilter:
    """Raises Refused."""
    config = unpack(packed, RBAC, place)
    check(config, SUPPORTED, place)
    if not config.stat_prefix:
        raise place.refuse("is required", "stat_prefix")
    if config.enforcement_type != RBAC.ONE_TIME_ON_FIRST_BYTE:
        # It would count, and log, each read of a connection once more.
        raise place.refuse("only ONE_TIME_ON_FIRST_BYTE is supported", "enforcement_type")
    rules = compile_rules(config.rules, TCP, place.at("rules")) if config.HasField("rules") else None
    shadow = None
    if config.HasField("shadow_rules"):
        shadow = compile_rules(config.shadow_rules, TCP, place.at("shadow_rules"))
    counters = stats.group(NamedCounters, f"{config.stat_prefix.removesuffix('.')}.rbac")
    counts = Counts(counters, "", config.shadow_rules_stat_prefix)
    return NetworkRbac(Control(rules, shadow, "", config.shadow_rules_stat_prefix), counts)
