"""CircuitBreakers to thresholds."""

from __future__ import annotations

from math import inf
from typing import Any

from mesh.proxy.compile.values import value_or
from mesh.proxy.fields import Place
from mesh.proxy.upstream.breaker import RetryBudget, Thresholds

_C = "envoy.config.cluster.v3.CircuitBreakers"
SUPPORTED = {
    _C: frozenset(("thresholds", "per_host_thresholds")),
    _C + ".Thresholds": frozenset(
        ("priority", "max_connections", "max_pending_requests", "max_requests", "max_retries", "retry_budget",
         "track_remaining")
    ),
    _C + ".Thresholds.RetryBudget": frozenset(("budget_percent", "min_retry_concurrency")),
    "envoy.type.v3.Percent": frozenset(("value",)),
}  # fmt: skip
_OF_HOSTS = frozenset(("priority", "max_connections"))


def compile_thresholds(cluster: Any, priority: int, place: Place) -> Thresholds:
    """The thresholds of a RoutingPriority; where there are several of one, the first counts. Raises Refused."""
    breakers = cluster.circuit_breakers
    per_host: float = inf
    for index, limits in enumerate(breakers.per_host_thresholds):
        for field, _ in limits.ListFields():
            if field.name not in _OF_HOSTS:
                inside = place.at(f"circuit_breakers.per_host_thresholds[{index}]")
                raise inside.refuse("not supported by this sidecar", field.name)
        if limits.priority == priority and per_host == inf:
            per_host = value_or(limits, "max_connections", inf)
    found = next((limits for limits in breakers.thresholds if limits.priority == priority), None)
    if found is None:
        return Thresholds(max_host_connections=per_host)
    return Thresholds(
        value_or(found, "max_connections", 1024),
        value_or(found, "max_pending_requests", 1024),
        value_or(found, "max_requests", 1024),
        value_or(found, "max_retries", 3),
        _budget(found.retry_budget) if found.HasField("retry_budget") else None,
        per_host,
        found.track_remaining,
    )


def _budget(budget: Any) -> RetryBudget:
    percent = budget.budget_percent.value if budget.HasField("budget_percent") else 20.0
    return RetryBudget(percent, value_or(budget, "min_retry_concurrency", 3))
