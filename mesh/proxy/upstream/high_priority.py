"""A cluster as requests of high priority see it: with a circuit breaker, counts and connections of their own.

Few routes say `priority: HIGH`. So nothing of the ordinary way knows of it: what is the cluster's is passed on, and
what differs is kept here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mesh.proxy.observe.upstream_counters import ClusterStats
from mesh.proxy.upstream.breaker import Breaker, SharingBreaker, Thresholds

if TYPE_CHECKING:
    from mesh.proxy.upstream.cluster import Cluster

_COUNTED = ("upstream_cx_active", "upstream_rq_pending_active", "upstream_rq_active", "retries_active")


class _Stats:
    """The cluster's counters, except that what its breaker asks for counts these requests alone. They count in the
    cluster's gauges as well.
    """

    def __init__(self, shared: ClusterStats) -> None:
        object.__setattr__(self, "_shared", shared)
        object.__setattr__(self, "_mine", dict.fromkeys(_COUNTED, 0))

    def __getattribute__(self, name: str) -> Any:
        mine = object.__getattribute__(self, "_mine")
        return mine[name] if name in mine else getattr(object.__getattribute__(self, "_shared"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        mine, shared = object.__getattribute__(self, "_mine"), object.__getattribute__(self, "_shared")
        if name not in mine:
            setattr(shared, name, value)
            return
        setattr(shared, name, getattr(shared, name) + value - mine[name])
        mine[name] = value


class HighPriority:
    """See the module. Made when the first such request comes; from then on the cluster's own breaker shares."""

    def __init__(self, cluster: Cluster, limits: Thresholds) -> None:
        self._cluster = cluster
        self.stats = cast(ClusterStats, _Stats(cluster.stats))
        self.breaker = Breaker(limits, self.stats, "high")
        cluster.breaker = SharingBreaker(cluster.breaker, self.breaker)
        cluster.stats.breakers = (cluster.breaker, self.breaker)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)
