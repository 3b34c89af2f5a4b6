"""Balancers that look at the hosts and not at the request: round robin, random, least request."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence

from mesh.proxy.balancing.balancer import Balancer, Make, Pickable


class RoundRobin:
    """Hosts in turn, from a random start so that many sidecars do not all begin with the same host."""

    __slots__ = ("_at", "_hosts")

    def __init__(self, hosts: Sequence[Pickable]) -> None:
        self._hosts = hosts
        self._at = random.randrange(len(hosts)) if hosts else 0

    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        hosts = self._hosts
        if not hosts:
            return None
        at = self._at
        self._at = at + 1 if at + 1 < len(hosts) else 0
        return hosts[at]


class Random:
    """Any host, evenly."""

    __slots__ = ("_hosts",)

    def __init__(self, hosts: Sequence[Pickable]) -> None:
        self._hosts = hosts

    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        hosts = self._hosts
        return hosts[int(random.random() * len(hosts))] if hosts else None


class LeastRequest:
    """The least loaded of `choices` hosts drawn at random."""

    __slots__ = ("_choices", "_hosts")

    def __init__(self, hosts: Sequence[Pickable], choices: int = 2) -> None:
        self._hosts = hosts
        self._choices = choices

    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        hosts = self._hosts
        size = len(hosts)
        if size < 2:
            return hosts[0] if hosts else None
        best = hosts[int(random.random() * size)]
        for _ in range(self._choices - 1):
            other = hosts[int(random.random() * size)]
            if other.active < best.active:
                best = other
        return best


class Weighted:
    """Earliest deadline first: a host of weight w comes up every 1/w, with the weight asked anew each time.

    Envoy balances unequal weights so for both round robin and least request; the latter divides a host's weight by
    its requests in flight.
    """

    __slots__ = ("_heap", "_order", "_weight")

    def __init__(self, hosts: Sequence[Pickable], weight: Callable[[Pickable], float]) -> None:
        self._weight = weight
        self._order = len(hosts)
        # A random first deadline keeps several sidecars from all starting with the heaviest host.
        self._heap = [(random.random() / weight(host), index, host) for index, host in enumerate(hosts)]
        heapq.heapify(self._heap)

    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        if not self._heap:
            return None
        deadline, _, host = self._heap[0]
        self._order += 1
        heapq.heapreplace(self._heap, (deadline + 1 / self._weight(host), self._order, host))
        return host


def plain_weight(host: Pickable) -> float:
    return host.weight


def loaded_weight(host: Pickable) -> float:
    return host.weight / (host.active + 1)


def round_robin(hosts: Sequence[Pickable]) -> Balancer:
    return Weighted(hosts, plain_weight) if _are_unequal(hosts) else RoundRobin(hosts)


def least_request(choices: int) -> Make:
    def make(hosts: Sequence[Pickable]) -> Balancer:
        return Weighted(hosts, loaded_weight) if _are_unequal(hosts) else LeastRequest(hosts, choices)

    return make


def random_choice(hosts: Sequence[Pickable]) -> Balancer:
    return Random(hosts)


def _are_unequal(hosts: Sequence[Pickable]) -> bool:
    return len({host.weight for host in hosts}) > 1
