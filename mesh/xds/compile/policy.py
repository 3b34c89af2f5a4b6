"""The traffic policy of one cluster: destination, port and subset levels put together."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.api.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    LoadBalancerSettings,
    OutlierDetection,
    RetryBudget,
    Subset,
    TrafficPolicy,
)
from mesh.snapshot.destination_rules import MergedRule


@dataclass(frozen=True, slots=True)
class Policy:
    """What is in force; None means Istio's default."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    retry_budget: RetryBudget | None = None


def effective(rule: MergedRule | None, subset: Subset | None, port: int) -> Policy:
    """Istio's `MergeTrafficPolicy`, first with the destination's policy, then with the subset's."""
    policy = _overlay(Policy(), rule.traffic_policy if rule else None, port)
    return _overlay(policy, subset.traffic_policy if subset else None, port)


def _overlay(base: Policy, over: TrafficPolicy | None, port: int) -> Policy:
    """Field by field; but port-level settings replace all fields, and what they leave out is the default."""
    if over is None:
        return base
    budget = over.retry_budget or base.retry_budget  # which ports have none of
    for own in over.port_level_settings:
        if own.port is not None and own.port.number == port:
            return Policy(own.load_balancer, own.connection_pool, own.outlier_detection, own.tls, budget)
    return Policy(
        over.load_balancer or base.load_balancer,
        over.connection_pool or base.connection_pool,
        over.outlier_detection or base.outlier_detection,
        over.tls or base.tls,
        budget,
    )
