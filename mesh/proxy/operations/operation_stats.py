"""Counters of the operations side, as Envoy names them: discovery, secrets, the control plane, the server itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, ClassVar

from mesh.proxy.downstream.listener import REPLACED_DRAIN_S
from mesh.proxy.observe.stats import Group, Stats, Tags
from mesh.proxy.operations.configuration import Configuration
from mesh.proxy.operations.references import CLUSTER, LISTENER, Kind, Reference
from mesh.proxy.resources import differ_in_chains_only


@dataclass(slots=True, eq=False)
class SubscriptionStats(Group):
    """One subscription: `cluster_manager.cds.*`, `listener_manager.lds.*`, `http.<prefix>.rds.<name>.*`, ..."""

    GAUGES: ClassVar[frozenset[str]] = frozenset({"version"})

    update_attempt: int = 0
    update_success: int = 0
    update_failure: int = 0
    update_rejected: int = 0
    init_fetch_timeout: int = 0
    version: int = 0

    def succeeded(self, version: str) -> None:
        """An update was accepted. As in Envoy the gauge is a hash of the version string."""
        self.update_success += 1
        self.version = int.from_bytes(blake2b(version.encode(), digest_size=6).digest(), "big")


@dataclass(slots=True, eq=False)
class ControlPlaneStats(Group):
    """`control_plane.*`"""

    GAUGES: ClassVar[frozenset[str]] = frozenset({"connected_state", "pending_requests"})

    connected_state: int = 0
    pending_requests: int = 0
    rate_limit_enforced: int = 0


@dataclass(slots=True, eq=False)
class ClusterManagerStats(Group):
    """`cluster_manager.*`"""

    GAUGES: ClassVar[frozenset[str]] = frozenset({"active_clusters", "warming_clusters"})

    cluster_added: int = 0
    cluster_modified: int = 0
    cluster_removed: int = 0
    active_clusters: int = 0
    warming_clusters: int = 0

    def changed(self, before: Mapping[str, Any], after: Mapping[str, Any], warming: int, unserved: int) -> None:
        """The clusters are now `after`. So many are `warming`; `unserved` are those of `after` that replace nothing."""
        self.cluster_added += len(after.keys() - before.keys())
        self.cluster_removed += len(before.keys() - after.keys())
        self.cluster_modified += _modified(before, after)
        self.active_clusters, self.warming_clusters = len(after) - unserved, warming


@dataclass(slots=True, eq=False)
class ListenerManagerStats(Group):
    """`listener_manager.*`"""

    GAUGES: ClassVar[frozenset[str]] = frozenset(
        {
            "total_listeners_active",
            "total_listeners_warming",
            "total_listeners_draining",
            "total_filter_chains_draining",
            "workers_started",
        }
    )

    listener_added: int = 0
    listener_modified: int = 0
    listener_removed: int = 0
    listener_create_success: int = 0
    listener_create_failure: int = 0
    total_listeners_active: int = 0
    total_listeners_warming: int = 0
    total_listeners_draining: int = 0
    total_filter_chains_draining: int = 0
    workers_started: int = 0

    def changed(self, before: Mapping[str, Any], after: Mapping[str, Any], warming: int) -> None:
        """The serving listeners are now `after`."""
        added, modified = len(after.keys() - before.keys()), _modified(before, after)
        self.listener_added += added
        self.listener_modified += modified
        self.listener_removed += len(before.keys() - after.keys())
        self.listener_create_success += added + modified
        self.total_listeners_active, self.total_listeners_warming = len(after), warming
        self._drain(before, after)

    def _drain(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """What leaves drains for a while, connections or not."""
        listeners = chains = 0
        for name, old in before.items():
            new = after.get(name)
            if new is None or not differ_in_chains_only(old, new):
                listeners += 1
            elif new is not old:
                kept = {chain.SerializeToString(deterministic=True) for chain in new.filter_chains}
                chains += sum(chain.SerializeToString(deterministic=True) not in kept for chain in old.filter_chains)
        if listeners or chains:
            self._drained(-listeners, -chains)
            asyncio.get_running_loop().call_later(REPLACED_DRAIN_S, self._drained, listeners, chains)

    def _drained(self, listeners: int, chains: int) -> None:
        self.total_listeners_draining -= listeners
        self.total_filter_chains_draining -= chains


def _modified(before: Mapping[str, Any], after: Mapping[str, Any]) -> int:
    return sum(1 for name, message in after.items() if name in before and before[name] is not message)


_MANAGERS = {CLUSTER: "cluster_manager.cds", LISTENER: "listener_manager.lds"}


def watch_managers(stats: Stats, configuration: Configuration) -> None:
    """Count what is added, changed and removed from now on."""
    clusters = stats.group(ClusterManagerStats, "cluster_manager")
    listeners = stats.group(ListenerManagerStats, "listener_manager")
    before = configuration.active
    owners: set[str] = set()
    unserved: set[str] = set()

    def changed() -> None:
        nonlocal before, owners, unserved
        after = configuration.active
        cold = [kind for kind, _ in configuration.warm_later]
        warming = configuration.warming
        unserved = {name for name in warming if name in unserved or name not in before.clusters}
        clusters.changed(before.clusters, after.clusters, cold.count(CLUSTER), len(unserved))
        listeners.changed(before.listeners, after.listeners, cold.count(LISTENER))
        listeners.workers_started = 1
        before = after
        wanted = {reference.owner for reference in configuration.wanted.values()}
        for owner in owners - wanted:  # as Envoy forgets the counters of what is gone
            stats.drop(owner)
        owners = wanted

    configuration.watch(changed)


def of_manager(stats: Stats, kind: Kind) -> SubscriptionStats:
    """The counters of the CDS or LDS subscription."""
    return stats.group(SubscriptionStats, _MANAGERS[kind])


def of_reference(stats: Stats, reference: Reference) -> SubscriptionStats:
    """The counters of one EDS, RDS or SDS subscription."""
    return stats.group(SubscriptionStats, reference.owner, _tags(reference))


def _tags(reference: Reference) -> Tags:
    first, _, rest = reference.owner.partition(".")
    if first == "cluster":
        return (("envoy.cluster_name", rest),)
    if first == "http":
        prefix = rest.partition(".rds.")[0]
        return (("envoy.http_conn_manager_prefix", prefix), ("envoy.rds_route_config", reference.name))
    return ()
