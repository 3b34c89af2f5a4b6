"""Consistent hashing: ring (Ketama) and Maglev, placed exactly as Envoy places them, and the bound on a host's load.

Both are built of hosts with weights that add up to 1 and answer `pick` by the request's key; a request without one goes
anywhere.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from math import ceil
from typing import Protocol

from mesh.proxy.upstream.balancing.balancer import Balancer, Pickable
from mesh.proxy.upstream.balancing.digests import xxh64

Share = tuple[Pickable, float]


class Hashed(Balancer, Protocol):
    """A balancer that hashes."""

    def sizes(self) -> tuple[tuple[str, int], ...]:
        """Envoy's gauges of it: how large it is, and how much of it hosts have."""


MakeHashed = Callable[[Sequence[Share]], Hashed]
_MASK = (1 << 64) - 1
_FILLINGS = 4


class Ring:
    """Each host at many places of a circle of 64-bit numbers; a key belongs to the next place at or after it."""

    __slots__ = ("_hosts", "_places", "least_places", "most_places")

    def __init__(self, shares: Sequence[Share], least: int, most: int, digest: Callable[[bytes], int]) -> None:
        """`least` and `most` bound the ring's size; the lightest host gets a whole number of places."""
        lightest = min((share for _, share in shares), default=1.0)
        scale = min(ceil(lightest * least) / lightest, float(most))
        placed: list[tuple[int, Pickable]] = []
        wanted = 0.0
        counts = []
        for host, share in shares:
            wanted += scale * share
            count = 0
            while len(placed) < wanted:
                placed.append((digest(f"{host.hash_key}_{count}".encode()), host))
                count += 1
            counts.append(count)
        placed.sort(key=lambda each: each[0])
        self._places = [place for place, _ in placed]
        self._hosts = [host for _, host in placed]
        self.least_places, self.most_places = min(counts, default=0), max(counts, default=0)

    @property
    def size(self) -> int:
        return len(self._places)

    def sizes(self) -> tuple[tuple[str, int], ...]:
        least, most = self.least_places, self.most_places
        names = ("size", "min_hashes_per_host", "max_hashes_per_host")
        return tuple(
            (f"ring_hash_lb.{name}", value) for name, value in zip(names, (self.size, least, most), strict=True)
        )

    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        if not self._hosts:
            return None
        at = bisect_left(self._places, random.getrandbits(64) if key is None else key)
        return self._hosts[(at % len(self._hosts) + attempt) % len(self._hosts)]


class Maglev:
    """A table that hosts fill in turn, each along a permutation of its own; a key belongs to the slot it falls on."""

    __slots__ = ("_table", "least_slots", "most_slots")

    def __init__(self, shares: Sequence[Share], size: int, known: MaglevFillings | None = None) -> None:
        """`size` is prime. `known` remembers how tables were filled, which costs a tenth of a second each."""
        self._table: list[Pickable] = []
        self.least_slots = self.most_slots = 0
        if shares:
            ordered = sorted(shares, key=lambda each: each[0].hash_key.encode())
            signature = tuple((host.hash_key, share) for host, share in ordered)
            filling = known.get(signature) if known is not None else None
            if filling is None:
                filling = _fill(ordered, size)
                if known is not None:
                    known.keep(signature, filling)
            counts = Counter(filling)
            self.least_slots, self.most_slots = min(counts.values()), max(counts.values())
            hosts = [host for host, _ in ordered]
            self._table = [hosts[index] for index in filling]

    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        table = self._table
        if not table:
            return None
        if key is None:
            key = random.getrandbits(64)
        if attempt:
            key ^= _MASK - attempt + 1  # many bits change, so that the table is left for another part of it
        return table[key % len(table)]

    def sizes(self) -> tuple[tuple[str, int], ...]:
        names = ("min_entries_per_host", "max_entries_per_host")
        counts = (self.least_slots, self.most_slots)
        return tuple((f"maglev_lb.{name}", value) for name, value in zip(names, counts, strict=True))


def _fill(shares: Sequence[Share], size: int) -> array[int]:
    """Which of `shares`, in the order of their keys, has each slot."""
    table = array("l", [-1]) * size
    keys = [host.hash_key.encode() for host, _ in shares]
    at = [xxh64(key) % size for key in keys]
    skips = [xxh64(key, 1) % (size - 1) + 1 for key in keys]
    heaviest = max(share for _, share in shares)
    targets = [0.0] * len(shares)
    left, turn = size, 0
    while left:
        turn += 1
        for index, (_, share) in enumerate(shares):
            if turn * share < targets[index]:
                continue  # a host of a third of the heaviest's weight comes up each third turn
            targets[index] += heaviest
            slot, skip = at[index], skips[index]
            while table[slot] >= 0:
                slot = (slot + skip) % size
            table[slot] = index
            at[index] = (slot + skip) % size
            left -= 1
            if not left:
                break
    return table


class MaglevFillings:
    """The last ways in which the tables of one cluster were filled: hosts come and go, and come again."""

    __slots__ = ("_fillings",)

    def __init__(self) -> None:
        self._fillings: dict[tuple[tuple[str, float], ...], array[int]] = {}

    def get(self, signature: tuple[tuple[str, float], ...]) -> array[int] | None:
        return self._fillings.get(signature)

    def keep(self, signature: tuple[tuple[str, float], ...], filling: array[int]) -> None:
        if len(self._fillings) >= _FILLINGS:
            del self._fillings[next(iter(self._fillings))]
        self._fillings[signature] = filling


class Bounded:
    """Consistent hashing with bounded loads (`hash_balance_factor`, in percent of the average).

    Who is full passes its request on to the others in an order that depends on the key alone. `active` tells how many
    requests the whole cluster has in flight.
    """

    __slots__ = ("_active", "_factor", "_hashed", "_shares", "_weights")

    def __init__(self, hashed: Hashed, shares: Sequence[Share], factor: int, active: Callable[[], int]) -> None:
        self._hashed = hashed
        self._shares = shares
        self._weights = dict(shares)
        self._factor = factor
        self._active = active

    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        if key is None:
            key = random.getrandbits(64)
        host = self._hashed.pick(key, attempt)
        if host is None:
            return None
        least = self._load(host, self._weights[host])
        if least <= 1.0:
            return host
        best = host
        for other, share in _shuffled(self._shares, key):
            if other is host:
                continue
            load = self._load(other, share)
            if load <= 1.0:
                return other
            if load < least:
                best, least = other, load
        return best

    def sizes(self) -> tuple[tuple[str, int], ...]:
        return self._hashed.sizes()

    def _load(self, host: Pickable, share: float) -> float:
        slots = ((self._active() + 1) * self._factor + 99) // 100
        return host.active / max(ceil(slots * share), 1)


def _shuffled(shares: Sequence[Share], key: int) -> list[Share]:
    """Envoy's shuffle by a Mersenne Twister that the key seeds."""
    left = list(shares)
    draw = _twister(key)
    for at in range(len(left)):
        remaining = len(left) - at
        offset = remaining
        while offset >= remaining:
            offset = draw() // ((1 << 32) // remaining)
        left[at], left[at + offset] = left[at + offset], left[at]
    return left


def _twister(seed: int) -> Callable[[], int]:
    """C++'s `std::mt19937(seed)`: Python's own seeds another way."""
    state = [seed & 0xFFFFFFFF]
    for at in range(1, 624):
        before = state[-1]
        state.append((1812433253 * (before ^ before >> 30) + at) & 0xFFFFFFFF)
    twister = random.Random()
    twister.setstate((3, (*state, 624), None))
    return lambda: twister.getrandbits(32)
