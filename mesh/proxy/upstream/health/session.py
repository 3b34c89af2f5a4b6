"""The health of one host by its checks: Envoy's thresholds and intervals, as a state machine without I/O.

A host is failed until its first check. That one decides alone; afterwards a change takes a run of `healthy_threshold`
or `unhealthy_threshold` checks, except that an answer which says no (and is not retriable) is believed at once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum, auto


class Outcome(Enum):
    """How a check ended. REFUSED: an answer that says no; RETRIABLE: one that is allowed to for a while."""

    PASSED = auto()
    DEGRADED = auto()
    REFUSED = auto()
    RETRIABLE = auto()
    UNREACHABLE = auto()
    TIMED_OUT = auto()


@dataclass(frozen=True, slots=True)
class Pace:
    """Thresholds in checks, intervals in seconds (`envoy.config.core.v3.HealthCheck`)."""

    timeout: float
    unhealthy_threshold: int
    healthy_threshold: int
    interval: float
    unhealthy_interval: float
    unhealthy_edge_interval: float
    healthy_edge_interval: float
    no_traffic_interval: float
    no_traffic_healthy_interval: float
    initial_jitter: float = 0.0
    interval_jitter: float = 0.0
    interval_jitter_percent: int = 0


class CheckedHealth:
    """What active checks know of a host. `is_pending` until the first one ended, `is_excluded` if the host wants it."""

    __slots__ = ("has_failed", "has_timed_out", "is_degraded", "is_excluded", "is_pending")

    def __init__(self, has_failed: bool = True, is_pending: bool = True) -> None:
        self.has_failed = has_failed
        self.is_pending = is_pending
        self.is_degraded = self.is_excluded = self.has_timed_out = False


class Session:
    """The checks of one host so far. `pause` is how long to wait before the next."""

    __slots__ = ("_failures", "_pace", "_passes", "health")

    def __init__(self, pace: Pace, health: CheckedHealth) -> None:
        self._pace = pace
        self._passes = self._failures = 0
        self.health = health

    def record(self, outcome: Outcome, has_traffic: bool) -> tuple[bool, float]:
        """Take in a check's outcome. Returns whether the host's health changed, and seconds until the next check.

        `has_traffic`: whether the cluster ever had a connection; without, checks are rarer.
        """
        passed = outcome in (Outcome.PASSED, Outcome.DEGRADED)
        changed, is_pending = self._passed(outcome) if passed else self._failed(outcome)
        self.health.is_pending = False
        return changed, self._pause(passed, is_pending, has_traffic)

    def _passed(self, outcome: Outcome) -> tuple[bool, bool]:
        health = self.health
        self._failures = 0
        changed = is_pending = False
        if health.has_failed:
            self._passes += 1
            if health.is_pending or self._passes >= self._pace.healthy_threshold:
                health.has_failed = health.has_timed_out = health.is_excluded = False
                changed = True
            else:
                is_pending = True
        is_degraded = outcome is Outcome.DEGRADED
        if is_degraded != health.is_degraded:
            health.is_degraded = is_degraded
            changed = True
        return changed, is_pending

    def _failed(self, outcome: Outcome) -> tuple[bool, bool]:
        health = self.health
        self._passes = 0
        changed = health.is_pending
        is_pending = False
        if not health.has_failed:
            self._failures += 1
            if outcome is Outcome.REFUSED or self._failures >= self._pace.unhealthy_threshold:
                health.has_failed = changed = True
            else:
                is_pending = True
        health.has_timed_out = outcome is Outcome.TIMED_OUT and health.has_failed
        return changed, is_pending

    def _pause(self, passed: bool, is_pending: bool, has_traffic: bool) -> float:
        pace = self._pace
        if not has_traffic:
            base = pace.no_traffic_healthy_interval if passed and not is_pending else pace.no_traffic_interval
        elif passed:
            base = pace.healthy_edge_interval if is_pending else pace.interval
        else:
            base = pace.unhealthy_edge_interval if is_pending else pace.unhealthy_interval
        share = random.random() * pace.interval_jitter_percent / 100
        return base + base * share + random.random() * pace.interval_jitter
