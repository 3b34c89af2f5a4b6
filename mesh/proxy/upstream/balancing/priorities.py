"""How Envoy spreads load over priorities: whole percentages, worked out from how much of each is available.

The theory: a priority's availability is its share of healthy hosts times the overprovisioning factor (1.4), at most
100 %. Load goes to the first priorities as far as their availability carries it, to healthy hosts first, then to
degraded ones. Where all priorities together do not carry 100 %, a priority with too few good hosts panics: it uses all
its hosts. All arithmetic is integer arithmetic, as Envoy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Census:
    """The hosts of one priority, counted. `total` are all but the excluded; weights where priorities go by weight."""

    hosts: int
    total: int
    healthy: int
    degraded: int
    total_weight: int
    healthy_weight: int
    degraded_weight: int

    def availability(self, overprovisioning: int) -> tuple[int, int]:
        """Percent of the load that healthy hosts carry, and that degraded ones carry."""
        if not self.total or not self.total_weight:
            return 0, 0
        healthy = overprovisioning * self.healthy_weight // self.total_weight
        degraded = overprovisioning * self.degraded_weight // self.total_weight
        return min(100, healthy), min(100, degraded)

    def is_below(self, threshold: int) -> bool:
        """Whether less than `threshold` percent of the hosts are good."""
        good = 0.0 if not self.total else 100.0 * self.healthy / self.total + 100.0 * self.degraded / self.total
        return good < threshold


@dataclass(frozen=True, slots=True)
class Loads:
    """Percent of requests by priority, for healthy hosts and for degraded ones; and which priorities panic."""

    healthy: tuple[int, ...]
    degraded: tuple[int, ...]
    panic: tuple[bool, ...]


def spread(priorities: Sequence[Census], overprovisioning: int, panic_threshold: int) -> Loads:
    """The load of each priority; together they make 100. There must be at least one priority."""
    calm = (False,) * len(priorities)
    none = (0,) * len(priorities)
    available = [census.availability(overprovisioning) for census in priorities]
    healthy, degraded = [each for each, _ in available], [each for _, each in available]
    together = min(100, sum(healthy) + sum(degraded))
    if together == 0:
        if panic_threshold > 0:
            return Loads(_by_size(priorities), none, (True,) * len(priorities))
        return Loads((100, *none[1:]), none, calm)
    panic = calm
    if together < 100:
        panic = tuple(census.is_below(panic_threshold) for census in priorities)
        if all(panic):
            return Loads(_by_size(priorities), none, panic)
    return Loads(*_fill(healthy, degraded, together), panic)


def _fill(healthy: Sequence[int], degraded: Sequence[int], together: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    to_healthy, left = _take(healthy, 100, together)
    to_degraded, left = _take(degraded, left, together)
    if left:  # what rounding has left goes to the first that has anything
        first = next((at for at, share in enumerate(healthy) if share), None)
        if first is not None:
            to_healthy[first] += left
        else:
            to_degraded[next(at for at, share in enumerate(degraded) if share)] += left
    return tuple(to_healthy), tuple(to_degraded)


def _take(available: Sequence[int], load: int, together: int) -> tuple[list[int], int]:
    taken = []
    for share in available:
        mine = min(load, share * 100 // together)
        taken.append(mine)
        load -= mine
    return taken, load


def _by_size(priorities: Sequence[Census]) -> tuple[int, ...]:
    """In total panic load goes by the number of hosts, however they are."""
    everyone = sum(census.hosts for census in priorities)
    if not everyone:
        return (100, *(0 for _ in priorities[1:]))
    loads = [100 * census.hosts // everyone for census in priorities]
    loads[next(at for at, census in enumerate(priorities) if census.hosts)] += 100 - sum(loads)
    return tuple(loads)
