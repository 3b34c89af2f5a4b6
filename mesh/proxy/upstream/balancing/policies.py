"""Balancers that look at the hosts and not at the request: round robin, random, least request."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from mesh.proxy.upstream.balancing.balancer import Balancer, Make, Pickable
from mesh.proxy.upstream.balancing.schedule import Schedule
from mesh.proxy.upstream.balancing.slow_start import SlowStart

Weigh = Callable[[Pickable], float]


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
    """Any host, evenly: Envoy's RANDOM looks at no weights."""

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


class LeastOfAll:
    """The least loaded host; of several, any (`selection_method: FULL_SCAN`)."""

    __slots__ = ("_hosts",)

    def __init__(self, hosts: Sequence[Pickable]) -> None:
        self._hosts = hosts

    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        if not self._hosts:
            return None
        least = min(host.active for host in self._hosts)
        return random.choice([host for host in self._hosts if host.active == least])


class Weighted:
    """Hosts as often as they weigh. Envoy balances unequal weights so for both round robin and least request."""

    __slots__ = ("_schedule",)

    def __init__(self, hosts: Sequence[Pickable], weigh: Weigh) -> None:
        self._schedule = Schedule(hosts, weigh)

    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        return self._schedule.next() if self._schedule else None


def plain_weight(host: Pickable) -> float:
    return host.weight


def loaded_weight(bias: float) -> Weigh:
    """A host's weight, the less the more requests it has in flight (`active_request_bias`)."""
    if bias == 0:
        return plain_weight
    if bias == 1:
        return lambda host: host.weight / (host.active + 1)
    return lambda host: host.weight / (host.active + 1) ** bias


def round_robin(hosts: Sequence[Pickable]) -> Balancer:
    return Weighted(hosts, plain_weight) if _are_unequal(hosts) else RoundRobin(hosts)


def least_request(choices: int = 2, bias: float = 1.0, *, is_full_scan: bool = False) -> Make:
    weigh = loaded_weight(bias)

    def make(hosts: Sequence[Pickable]) -> Balancer:
        if _are_unequal(hosts):
            return Weighted(hosts, weigh)
        return LeastOfAll(hosts) if is_full_scan else LeastRequest(hosts, choices)

    return make


def random_choice(hosts: Sequence[Pickable]) -> Balancer:
    return Random(hosts)


def slowly_started(settled: Make, weigh: Weigh, slow_start: SlowStart) -> Make:
    """`settled`, except that hosts which are new to the cluster or healthy again get their share little by little."""

    def make(hosts: Sequence[Pickable]) -> Balancer:
        if any(slow_start.holds_back(host) for host in hosts):
            return Weighted(hosts, lambda host: weigh(host) * slow_start.factor(host))
        return settled(hosts)

    return make


def _are_unequal(hosts: Sequence[Pickable]) -> bool:
    return len({host.weight for host in hosts}) > 1
