"""Rings and Maglev tables: the hosts that Envoy 1.40 chose for the same keys, and what hashing promises."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.proxy.upstream.balancing.balancer import Balancer
from mesh.proxy.upstream.balancing.digests import murmur2, xxh64
from mesh.proxy.upstream.balancing.hashing import Bounded, Maglev, Ring, Share


@dataclass(eq=False)
class Host:
    hash_key: str
    weight: int = 1
    active: int = 0
    healthy_since: float | None = None


HOSTS = [Host("h1", 1), Host("h2", 2), Host("h3", 3), Host("h4", 1)]
SHARES: list[Share] = [(host, host.weight / 7) for host in HOSTS]
MOST = 8 << 20
KEYS = st.integers(0, (1 << 64) - 1)


def chosen(balancer: Balancer, keys: int) -> str:
    """The number of the host of each of `key-0`, `key-1`, ..."""
    hosts = [balancer.pick(xxh64(f"key-{number}".encode())) for number in range(keys)]
    return "".join(host.hash_key[1] for host in hosts if host is not None)


@pytest.mark.parametrize(
    ("balancer", "by_envoy"),
    [
        (Ring(SHARES, 1024, MOST, xxh64), "4323312442343422213332233341223112124334"),
        (Ring(SHARES, 64, MOST, murmur2), "3414121133412313311433223414142242223133"),
        (Maglev(SHARES, 65537), "2313314332431332344334432322122134323223"),
        (Maglev(SHARES, 251), "1133323121331323321333443243322143322421"),
    ],
)
def test_the_hosts_that_envoy_chose(balancer: Balancer, by_envoy: str) -> None:
    assert chosen(balancer, 40) == by_envoy


def test_sizes_are_those_that_envoy_shows() -> None:
    ring, table = Ring(SHARES, 1024, MOST, xxh64), Maglev(SHARES, 65537)
    assert (ring.size, ring.least_places, ring.most_places) == (1029, 147, 441)
    assert (table.least_slots, table.most_slots) == (9362, 28087)
    capped = Ring(SHARES, 10, 50, xxh64)
    assert (capped.size, capped.least_places, capped.most_places) == (14, 2, 6)


@pytest.mark.parametrize("empty", [Ring([], 1024, MOST, xxh64), Maglev([], 251)])
def test_nobody_is_picked_of_nobody(empty: Balancer) -> None:
    assert empty.pick(1) is None


@given(KEYS, st.integers(0, 3))
def test_without_a_host_only_its_keys_move(key: int, gone: int) -> None:
    hosts = [Host(f"10.0.0.{number}:80") for number in range(4)]
    before = Ring([(host, 0.25) for host in hosts], 256, MOST, xxh64).pick(key)
    left = [host for host in hosts if host is not hosts[gone]]
    after = Ring([(host, 1 / 3) for host in left], 192, MOST, xxh64).pick(key)
    assert before is after or before is hosts[gone]


@given(KEYS)
def test_further_attempts_reach_every_host_of_a_ring(key: int) -> None:
    ring = Ring(SHARES, 16, MOST, xxh64)
    assert {ring.pick(key, attempt) for attempt in range(ring.size)} == set(HOSTS)


def test_no_key_means_anybody() -> None:
    # One of four hosts is missed in 300 draws with probability 4 * (6/7)^300, less than 1e-19.
    for balancer in (Ring(SHARES, 1024, MOST, xxh64), Maglev(SHARES, 251)):
        assert {balancer.pick() for _ in range(300)} == set(HOSTS)


def test_maglev_fills_its_table_by_weight() -> None:
    table = Maglev(SHARES, 65537)
    counts = Counter(host.hash_key for number in range(65537) if (host := table.pick(number)) is not None)
    assert counts["h3"] == pytest.approx(3 * counts["h1"], abs=3)


class TestBounded:
    def bounded(self, *active: int, factor: int = 150) -> tuple[Bounded, list[Host]]:
        hosts = [Host(f"h{number}", active=count) for number, count in enumerate(active)]
        shares: list[Share] = [(host, 1 / len(hosts)) for host in hosts]
        total = sum(active)
        return Bounded(Ring(shares, 64, MOST, xxh64), shares, factor, lambda: total), hosts

    def test_who_is_not_full_gets_what_hashes_to_him(self) -> None:
        bounded, hosts = self.bounded(0, 0, 0)
        plain = Ring([(host, 1 / 3) for host in hosts], 64, MOST, xxh64)
        assert chosen(bounded, 30) == chosen(plain, 30)

    @given(KEYS)
    def test_who_is_full_is_passed_over(self, key: int) -> None:
        bounded, hosts = self.bounded(9, 0, 0)
        assert bounded.pick(key) is not hosts[0]

    @given(KEYS, st.lists(st.integers(0, 20), min_size=1, max_size=6))
    def test_no_host_gets_more_than_its_bound_while_another_has_room(self, key: int, active: list[int]) -> None:
        bounded, hosts = self.bounded(*active)
        host = bounded.pick(key)
        slots = max(-(-((sum(active) + 1) * 150 + 99) // 100 // len(active)), 1)
        assert host is not None
        assert host.active <= slots + 1 or all(each.active > slots for each in hosts)

    def test_the_way_round_depends_on_the_key_alone(self) -> None:
        first, second = self.bounded(9, 1, 1, 1)[0], self.bounded(9, 1, 1, 1)[0]
        assert chosen(first, 50) == chosen(second, 50)
