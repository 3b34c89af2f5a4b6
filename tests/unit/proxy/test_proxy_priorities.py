"""How load is spread over priorities and localities: Envoy's numbers, and what must hold for any."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.proxy.upstream.balancing.arrangement import LoadBalancing, Rules, arrange
from mesh.proxy.upstream.balancing.digests import xxh64
from mesh.proxy.upstream.balancing.hashing import Ring
from mesh.proxy.upstream.balancing.member import Locality, Standing
from mesh.proxy.upstream.balancing.priorities import Census, Loads, spread


def census(healthy: int, degraded: int, total: int) -> Census:
    return Census(total, total, healthy, degraded, total, healthy, degraded)


COUNTS = st.integers(0, 20).flatmap(
    lambda total: st.integers(0, total).flatmap(
        lambda healthy: st.builds(census, st.just(healthy), st.integers(0, total - healthy), st.just(total))
    )
)


@pytest.mark.parametrize(
    ("hosts", "loads"),
    [
        ([(4, 0, 4)], Loads((100,), (0,), (False,))),
        ([(2, 0, 4), (4, 0, 4)], Loads((70, 30), (0, 0), (False, False))),
        ([(1, 0, 4), (1, 0, 4)], Loads((50, 50), (0, 0), (True, True))),  # 35 + 35 do not carry 100: panic by size
        ([(0, 0, 4), (4, 0, 4)], Loads((0, 100), (0, 0), (False, False))),
        ([(0, 0, 0), (1, 0, 1)], Loads((0, 100), (0, 0), (False, False))),
        ([(1, 1, 2)], Loads((70,), (30,), (False,))),
        ([(0, 2, 2)], Loads((0,), (100,), (False,))),
        ([(0, 0, 3), (0, 0, 1)], Loads((75, 25), (0, 0), (True, True))),
        ([(0, 0, 0)], Loads((100,), (0,), (True,))),
    ],
)
def test_loads_as_envoys_documentation_has_them(hosts: list[tuple[int, int, int]], loads: Loads) -> None:
    assert spread([census(*each) for each in hosts], 140, 50) == loads


@given(st.lists(COUNTS, min_size=1, max_size=5), st.integers(100, 200), st.integers(0, 100))
def test_every_request_has_a_place_to_go(priorities: list[Census], overprovisioning: int, threshold: int) -> None:
    loads = spread(priorities, overprovisioning, threshold)
    assert sum(loads.healthy) + sum(loads.degraded) == 100
    assert min(*loads.healthy, *loads.degraded, 0) == 0


@given(st.lists(COUNTS, min_size=1, max_size=5))
def test_load_goes_where_there_is_somebody(priorities: list[Census]) -> None:
    loads = spread(priorities, 140, 50)
    if any(each.hosts for each in priorities):
        for each, load in zip(priorities, loads.healthy, strict=True):
            assert not load or each.hosts


@dataclass(eq=False)
class Host:
    name: str
    standing: Standing = Standing.HEALTHY
    priority: int = 0
    locality: Locality = ("", "", "")
    locality_weight: int = 0
    weight: int = 1
    active: int = 0
    healthy_since: float | None = None

    @property
    def hash_key(self) -> str:
        return self.name


@dataclass
class Stats:
    lb_healthy_panic: int = 0
    hash_sizes: tuple[tuple[str, int], ...] = ()


@dataclass
class Lab:
    hosts: list[Host]
    balancing: LoadBalancing = field(default_factory=LoadBalancing)
    rules: Rules = field(default_factory=Rules)
    stats: Stats = field(default_factory=Stats)

    def picks(self, times: int) -> Counter[str]:
        balancer = arrange(self.hosts, self.balancing, self.rules, self.stats, lambda: 0)
        return Counter(host.name for _ in range(times) if isinstance(host := balancer.pick(), Host))


def test_excluded_hosts_neither_serve_nor_count() -> None:
    lab = Lab([Host("a"), Host("b", Standing.EXCLUDED), Host("c", Standing.EXCLUDED)])
    assert lab.picks(10) == {"a": 10}
    assert lab.stats.lb_healthy_panic == 0


def test_a_cluster_without_hosts_has_nobody_to_pick() -> None:
    assert Lab([]).picks(1) == {}


def test_seventy_percent_of_the_requests_stay_with_half_of_the_hosts() -> None:
    lab = Lab([Host("a"), Host("b", Standing.UNHEALTHY), Host("far", priority=1)])
    # 7,000 expected with a standard deviation of 46: ten of them are as good as never
    assert lab.picks(10_000)["a"] == pytest.approx(7000, abs=460)


def test_degraded_hosts_of_a_locality_are_weighted_too() -> None:
    near, far = ("r", "near", ""), ("r", "far", "")
    lab = Lab(
        [Host("a", Standing.DEGRADED, locality=near, locality_weight=3),
         Host("b", Standing.DEGRADED, locality=far, locality_weight=1)],
        LoadBalancing(is_locality_weighted=True),
    )  # fmt: skip
    lab.picks(4)
    assert lab.picks(400) == {"a": 300, "b": 100}


def test_a_hash_decides_of_the_priority_too() -> None:
    balancing = LoadBalancing(make_hashed=lambda _: lambda shares: Ring(shares, 64, 1024, xxh64))
    lab = Lab([Host("a"), Host("b", Standing.UNHEALTHY), Host("far", priority=1)], balancing)
    balancer = arrange(lab.hosts, balancing, Rules(), lab.stats, lambda: 0)
    assert [balancer.pick(key) for key in (69, 70)] == [lab.hosts[0], lab.hosts[2]]
