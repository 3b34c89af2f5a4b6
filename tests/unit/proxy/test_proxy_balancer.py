"""Load balancing: who is picked, and how often."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from mesh.proxy.upstream.balancing import policies
from mesh.proxy.upstream.balancing.balancer import Balancer, Make, pick_untried
from mesh.proxy.upstream.balancing.slow_start import SlowStart


@dataclass(eq=False)
class Host:
    name: str
    weight: int = 1
    active: int = 0
    healthy_since: float | None = None

    @property
    def hash_key(self) -> str:
        return self.name


HOSTS = [Host("a"), Host("b"), Host("c")]


def picks(chosen: Balancer, times: int) -> Counter[str]:
    return Counter(host.name for _ in range(times) if isinstance(host := chosen.pick(), Host))


@pytest.mark.parametrize("make", [policies.round_robin, policies.least_request(2), policies.random_choice])
def test_nobody_is_picked_of_nobody(make: Make) -> None:
    assert make([]).pick() is None


def test_round_robin_takes_turns() -> None:
    assert picks(policies.round_robin(HOSTS), 30) == {"a": 10, "b": 10, "c": 10}


def test_round_robin_holds_to_weights_exactly() -> None:
    chosen = policies.round_robin([Host("a", 9), Host("b", 1)])
    picks(chosen, 10)  # the first round starts anywhere
    assert picks(chosen, 1000) == {"a": 900, "b": 100}


def test_least_request_of_all_hosts_finds_the_idle_one() -> None:
    busy = [Host("a", active=5), Host("b", active=0), Host("c", active=5)]
    # 50 draws miss the idle host with probability (2/3)^50, less than 2e-9
    assert policies.least_request(50)(busy).pick() is busy[1]


def test_least_request_with_weights_prefers_who_is_free() -> None:
    free, busy = Host("free", 1), Host("busy", 2, active=99)
    seen = picks(policies.least_request(2)([free, busy]), 1000)
    assert seen["free"] > 900


def test_random_reaches_everybody() -> None:
    # one of three is missed in 100 draws with probability 3 * (2/3)^100, less than 1e-17
    assert set(picks(policies.random_choice(HOSTS), 100)) == {"a", "b", "c"}


def test_hosts_that_were_tried_are_avoided_while_attempts_last() -> None:
    chosen = policies.round_robin(HOSTS)
    first = chosen.pick()
    assert first is not None
    for _ in range(5):
        assert pick_untried(chosen, {first}, 5) is not first
    assert pick_untried(policies.round_robin(HOSTS[:1]), set(HOSTS), 5) is HOSTS[0]


def test_a_bias_of_zero_forgets_the_load() -> None:
    chosen = policies.least_request(2, 0.0)([Host("a", 3, active=99), Host("b", 1)])
    picks(chosen, 4)
    assert picks(chosen, 400) == {"a": 300, "b": 100}


def test_a_full_scan_finds_the_idle_host() -> None:
    hosts = [Host(str(number), active=5) for number in range(50)]
    hosts[33].active = 4
    assert policies.least_request(2, is_full_scan=True)(hosts).pick() is hosts[33]


def test_a_new_host_gets_its_share_little_by_little() -> None:
    now = 0.0
    slow_start = SlowStart(window=10.0, clock=lambda: now)
    old, new = Host("old", healthy_since=-100.0), Host("new", healthy_since=0.0)
    make = policies.slowly_started(policies.round_robin, policies.plain_weight, slow_start)
    for age, share in ((0.0, 1 / 11), (5.0, 1 / 3)):
        now = age
        # Where the first turns fall is drawn, but wherever they do, it moves a share by less than two picks.
        assert picks(make([old, new]), 1100)["new"] == pytest.approx(1100 * share, abs=2)
    now = 10.0
    assert isinstance(make([old, new]), policies.RoundRobin)


@pytest.mark.parametrize(("age", "aggression", "least", "factor"), [
    (0.0, 1.0, 0.1, 0.1), (2.5, 1.0, 0.1, 0.25), (2.5, 2.0, 0.1, 0.5), (0.0, 1.0, 0.0, 0.0001), (10.0, 1.0, 0.1, 1.0),
])  # fmt: skip
def test_slow_starts_curve(age: float, aggression: float, least: float, factor: float) -> None:
    slow_start = SlowStart(10.0, lambda: age, aggression, least)
    assert slow_start.factor(Host("a", healthy_since=0.0)) == pytest.approx(factor)
