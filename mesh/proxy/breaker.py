"""Circuit breakers: Envoy's thresholds of one cluster and priority, as counts against limits."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.proxy.stats import ClusterStats


@dataclass(frozen=True, slots=True)
class Thresholds:
    """`envoy.config.cluster.v3.CircuitBreakers.Thresholds` with Envoy's defaults."""

    max_connections: int = 1024
    max_pending_requests: int = 1024
    max_requests: int = 1024
    max_retries: int = 3


class Breaker:
    """What is in use of each threshold. The gauges in `stats` say whether a circuit is open.

    `may_*` asks, `took_*` and `gave_*` count. Envoy's counters of refusals are raised by `may_*` itself, since each
    question that is answered with no is one refusal.
    """

    __slots__ = ("connections", "limits", "pending", "requests", "retries", "stats")

    def __init__(self, limits: Thresholds, stats: ClusterStats) -> None:
        self.limits = limits
        self.stats = stats
        self.connections = self.pending = self.requests = self.retries = 0

    def may_connect(self) -> bool:
        if self.connections < self.limits.max_connections:
            return True
        self.stats.upstream_cx_overflow += 1
        return False

    def may_wait(self) -> bool:
        if self.pending < self.limits.max_pending_requests:
            return True
        self.stats.upstream_rq_pending_overflow += 1
        return False

    def may_request(self) -> bool:
        if self.requests < self.limits.max_requests:
            return True
        self.stats.upstream_rq_pending_overflow += 1
        return False

    def may_retry(self) -> bool:
        if self.retries < self.limits.max_retries:
            return True
        self.stats.upstream_rq_retry_overflow += 1
        return False

    def count_connection(self, by: int) -> None:
        self.connections += by
        self.stats.circuit_breakers__default__cx_open = int(self.connections >= self.limits.max_connections)

    def count_pending(self, by: int) -> None:
        self.pending += by
        self.stats.circuit_breakers__default__rq_pending_open = int(self.pending >= self.limits.max_pending_requests)

    def count_request(self, by: int) -> None:
        self.requests += by
        self.stats.circuit_breakers__default__rq_open = int(self.requests >= self.limits.max_requests)

    def count_retry(self, by: int) -> None:
        self.retries += by
        self.stats.circuit_breakers__default__rq_retry_open = int(self.retries >= self.limits.max_retries)
