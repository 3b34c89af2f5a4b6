"""Outlier detection by comparison: which hosts fail more often than their peers, or than is allowed at all.

Each interval is judged for itself. MUST NOT eject anybody: it only says whom the numbers single out.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple


class Tally:
    """Responses of one host within the present interval; `rate` in percent is of the last one, -1 if it had too few."""

    __slots__ = ("good", "rate", "total")

    def __init__(self) -> None:
        self.total = self.good = 0
        self.rate = -1.0

    def take(self) -> tuple[int, float] | None:
        """Volume and success rate in percent, and begin anew; None if nothing came."""
        total, good = self.total, self.good
        self.total = self.good = 0
        self.rate = -1.0
        return (total, 100.0 * good / total) if total else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """When hosts are compared, and what singles one out. `stdev_factor` is in thousandths, as Envoy has it."""

    minimum_hosts: int = 5
    request_volume: int = 100
    stdev_factor: int = 1900
    failure_threshold: int = 85
    failure_minimum_hosts: int = 5
    failure_request_volume: int = 50


class Verdict(NamedTuple):
    """Positions of the hosts with too low a rate, and of those with too many failures; in percent, -1 for unknown."""

    slow: tuple[int, ...] = ()
    failing: tuple[int, ...] = ()
    average: float = -1.0
    threshold: float = -1.0


def compare(tallies: Sequence[Tally], exempt: Container[int], comparison: Comparison) -> Verdict:
    """Judge the interval of these hosts, except those at the positions `exempt`, and begin the next."""
    taken = [(at, tally, tally.take()) for at, tally in enumerate(tallies)]
    if len(tallies) < min(comparison.minimum_hosts, comparison.failure_minimum_hosts):
        return Verdict()
    counted, failing = [], []
    for at, tally, found in taken:
        if found is None or at in exempt:
            continue
        volume, rate = found
        if volume >= min(comparison.request_volume, comparison.failure_request_volume):
            tally.rate = rate
        if volume >= comparison.request_volume:
            counted.append((at, rate))
        if volume >= comparison.failure_request_volume:
            failing.append((at, rate))
    average = threshold = -1.0
    slow: tuple[int, ...] = ()
    if counted and len(counted) >= comparison.minimum_hosts:
        average, threshold = _bounds([rate for _, rate in counted], comparison.stdev_factor / 1000)
        slow = tuple(at for at, rate in counted if rate < threshold)
    if len(failing) < comparison.failure_minimum_hosts:
        failing = []
    over = tuple(at for at, rate in failing if 100.0 - rate >= comparison.failure_threshold)
    return Verdict(slow, over, average, threshold)


def _bounds(rates: Sequence[float], factor: float) -> tuple[float, float]:
    average = sum(rates) / len(rates)
    variance = sum((rate - average) ** 2 for rate in rates) / len(rates)
    return average, average - factor * sqrt(variance)
