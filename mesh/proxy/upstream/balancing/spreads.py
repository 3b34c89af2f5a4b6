"""Balancers around balancers: shares of the load by priority, and panic."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

from mesh.proxy.upstream.balancing.balancer import Balancer, Pickable


class BalancerStats(Protocol):
    """What balancing tells of itself: picks in panic, and how large its hash tables are by Envoy's names."""

    lb_healthy_panic: int
    hash_sizes: tuple[tuple[str, int], ...]


class Spread:
    """Several balancers, each with its percentage of the requests; the percentages make 100."""

    __slots__ = ("_balancers", "_ends")

    def __init__(self, targets: Sequence[tuple[int, Balancer]]) -> None:
        self._ends = list(accumulate(share for share, _ in targets))
        self._balancers = [balancer for _, balancer in targets]

    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        return self._at(int(random.random() * 100)).pick(key, attempt)

    def _at(self, draw: int) -> Balancer:
        return self._balancers[bisect_left(self._ends, draw + 1)]


class HashSpread(Spread):
    """The same, where the key decides of the priority too."""

    __slots__ = ()

    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        if key is None:
            key = random.getrandbits(64)
        return self._at(key % 100).pick(key, attempt)


class Panicking:
    """Counts what is picked in panic."""

    __slots__ = ("_balancer", "_stats")

    def __init__(self, balancer: Balancer, stats: BalancerStats) -> None:
        self._balancer = balancer
        self._stats = stats

    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        self._stats.lb_healthy_panic += 1
        return self._balancer.pick(key, attempt)


class Nobody:
    """Picks nobody (`fail_traffic_on_panic`)."""

    __slots__ = ()

    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        return None
