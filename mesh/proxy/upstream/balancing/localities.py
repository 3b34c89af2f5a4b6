"""Locality weighted load balancing: first a locality by its weight, as far as it is available, then a host in it."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.proxy.upstream.balancing.balancer import Balancer, Make, Pickable
from mesh.proxy.upstream.balancing.member import Member, Standing
from mesh.proxy.upstream.balancing.schedule import Schedule


class _Group:
    __slots__ = ("balancer", "weight")

    def __init__(self, weight: float, balancer: Balancer) -> None:
        self.weight = weight
        self.balancer = balancer


class Localities:
    """The localities of one priority that have a weight and hosts of the standing wanted; false if there is none."""

    __slots__ = ("_schedule",)

    def __init__(
        self, groups: Sequence[Sequence[Member]], standing: Standing, overprovisioning: int, make: Make
    ) -> None:
        weighed = []
        for group in groups:
            eligible = [host for host in group if host.standing == standing]
            counted = sum(host.standing.counts for host in group)
            if counted and eligible:
                carried = min(1.0, overprovisioning / 100 * len(eligible) / counted)
                weighed.append(_Group(group[0].locality_weight * carried, make(eligible)))
        self._schedule = Schedule([group for group in weighed if group.weight > 0], _weight)

    def __bool__(self) -> bool:
        return len(self._schedule) > 0

    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        return self._schedule.next().balancer.pick(key, attempt)


def _weight(group: _Group) -> float:
    return group.weight
