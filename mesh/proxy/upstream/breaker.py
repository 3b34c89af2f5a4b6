"""Circuit breakers: Envoy's thresholds of one cluster and priority, as counts against limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from mesh.proxy.observe.upstream_counters import ClusterStats


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """Retries as a share of the requests under way, which stands in `max_retries`' stead."""

    percent: float = 20.0
    least: int = 3


@dataclass(frozen=True, slots=True)
class Thresholds:
    """`envoy.config.cluster.v3.CircuitBreakers.Thresholds` with Envoy's defaults.

    `max_host_connections` is of `per_host_thresholds`; `tracks_remaining` shows what is left as gauges.
    """

    max_connections: int = 1024
    max_pending_requests: int = 1024
    max_requests: int = 1024
    max_retries: int = 3
    retry_budget: RetryBudget | None = None
    max_host_connections: float = inf
    tracks_remaining: bool = False


class Breaker:
    """Asks whether one more of something fits. What is in use is what the cluster's gauges count, so nothing is
    counted twice; a question that is answered with no is one of Envoy's counted refusals.
    """

    __slots__ = ("limits", "name", "stats")

    def __init__(self, limits: Thresholds, stats: ClusterStats, name: str = "default") -> None:
        self.limits = limits
        self.stats = stats
        self.name = name

    def may_connect(self, host_connections: int) -> bool:
        """Whether a host that has so many connections may have another."""
        limits = self.limits
        if self.connections < limits.max_connections and host_connections < limits.max_host_connections:
            return True
        self.stats.upstream_cx_overflow += 1
        return False

    def may_wait(self) -> bool:
        if self.pending < self.limits.max_pending_requests:
            return True
        self.stats.upstream_rq_pending_overflow += 1
        return False

    def may_request(self) -> bool:
        if self.stats.upstream_rq_active < self.limits.max_requests:
            return True
        self.stats.upstream_rq_active_overflow += 1
        return False

    def may_retry(self) -> bool:
        if self.retries < self.max_retries():
            return True
        self.stats.upstream_rq_retry_overflow += 1
        return False

    # What is in use

    @property
    def connections(self) -> int:
        return self.stats.upstream_cx_active

    @property
    def pending(self) -> int:
        return self.stats.upstream_rq_pending_active

    @property
    def requests(self) -> int:
        return self.stats.upstream_rq_active

    @property
    def retries(self) -> int:
        return self.stats.retries_active

    def max_retries(self) -> int:
        """How many retries may be under way now."""
        budget = self.limits.retry_budget
        if budget is None:
            return self.limits.max_retries
        return max(int(budget.percent / 100 * (self.requests + self.pending)), budget.least)

    def gauges(self) -> Iterator[tuple[str, int]]:
        """Envoy's gauges of this priority."""
        limits = self.limits
        use = (
            ("cx_open", "remaining_cx", self.connections, limits.max_connections),
            ("rq_pending_open", "remaining_pending", self.pending, limits.max_pending_requests),
            ("rq_open", "remaining_rq", self.requests, limits.max_requests),
            ("rq_retry_open", "remaining_retries", self.retries, self.max_retries()),
        )
        for is_open, remaining, used, limit in use:
            yield f"{self.name}.{is_open}", int(used >= limit)
            if limits.tracks_remaining and not (remaining == "remaining_retries" and limits.retry_budget is not None):
                yield f"{self.name}.{remaining}", max(limit - used, 0)


class SharingBreaker(Breaker):
    """The default priority's, once the other one has requests: the gauges count both, so the others' are taken off."""

    __slots__ = ("_others",)

    def __init__(self, of: Breaker, others: Breaker) -> None:
        super().__init__(of.limits, of.stats, of.name)
        self._others = others

    def may_request(self) -> bool:
        if self.requests < self.limits.max_requests:
            return True
        self.stats.upstream_rq_active_overflow += 1
        return False

    @property
    def connections(self) -> int:
        return self.stats.upstream_cx_active - self._others.connections

    @property
    def pending(self) -> int:
        return self.stats.upstream_rq_pending_active - self._others.pending

    @property
    def requests(self) -> int:
        return self.stats.upstream_rq_active - self._others.requests

    @property
    def retries(self) -> int:
        return self.stats.retries_active - self._others.retries
