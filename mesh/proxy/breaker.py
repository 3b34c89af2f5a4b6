"""Circuit breakers: Envoy's thresholds of one cluster and priority, as counts against limits."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.proxy.counters import ClusterStats


@dataclass(frozen=True, slots=True)
class Thresholds:
    """`envoy.config.cluster.v3.CircuitBreakers.Thresholds` with Envoy's defaults."""

    max_connections: int = 1024
    max_pending_requests: int = 1024
    max_requests: int = 1024
    max_retries: int = 3


class Breaker:
    """Asks whether one more of something fits. What is in use is what the cluster's gauges count, so nothing is
    counted twice; a question that is answered with no is one of Envoy's counted refusals.
    """

    __slots__ = ("limits", "stats")

    def __init__(self, limits: Thresholds, stats: ClusterStats) -> None:
        self.limits = limits
        self.stats = stats
        stats.limits = (limits.max_connections, limits.max_pending_requests, limits.max_requests, limits.max_retries)

    def may_connect(self) -> bool:
        if self.stats.upstream_cx_active < self.limits.max_connections:
            return True
        self.stats.upstream_cx_overflow += 1
        return False

    def may_wait(self) -> bool:
        if self.stats.upstream_rq_pending_active < self.limits.max_pending_requests:
            return True
        self.stats.upstream_rq_pending_overflow += 1
        return False

    def may_request(self) -> bool:
        if self.stats.upstream_rq_active < self.limits.max_requests:
            return True
        self.stats.upstream_rq_active_overflow += 1
        return False

    def may_retry(self) -> bool:
        if self.stats.retries_active < self.limits.max_retries:
            return True
        self.stats.upstream_rq_retry_overflow += 1
        return False
