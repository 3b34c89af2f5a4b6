"""Which endpoints a client is to prefer: Istio's `localityLbSetting`, and its default where hosts may be ejected.

Localities are `region/zone/sub-zone`, with parts left out from the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mesh.api.destination_rule import LocalityDistribute, LocalityLoadBalancerSetting
from mesh.registry.types import Endpoint
from mesh.xds.compile.policy import Policy

REGION, ZONE, SUBZONE = (
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
)
_DEFAULT: Final = LocalityLoadBalancerSetting()


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a client is, and those of its labels that some rule's `failoverPriority` asks about."""

    locality: str
    labels: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Spread:
    """How a cluster's endpoints are arranged for one client."""

    setting: LocalityLoadBalancerSetting
    caller: Caller
    fails_over: bool


@dataclass(slots=True)
class Group:
    """Endpoints of one locality and priority. `weight` is the locality's share."""

    locality: str
    priority: int = 0
    weight: int = 0
    endpoints: list[Endpoint] = field(default_factory=list)


def setting_of(policy: Policy) -> tuple[LocalityLoadBalancerSetting, bool] | None:
    """What a cluster's policy says, and whether it fails over; None where clients' places make no difference.

    Istio's default is to fail over by locality where `outlierDetection` notices that hosts fail.
    """
    setting = policy.load_balancer.locality_lb_setting if policy.load_balancer else None
    fails_over = policy.outlier_detection is not None
    if setting is None:
        return (_DEFAULT, True) if fails_over else None
    if setting.enabled is False or not (setting.distribute or fails_over):
        return None
    return setting, fails_over


def groups(endpoints: Iterable[Endpoint], spread: Spread | None) -> list[Group]:
    """By priority, then by locality."""
    if spread is None:
        return _grouped(endpoints, lambda _: 0)
    distribute = next((own for own in spread.setting.distribute if _covers(own.from_, spread.caller.locality)), None)
    if distribute is not None:
        return list(_distributed(_grouped(endpoints, lambda _: 0), distribute))
    if not spread.fails_over or spread.setting.distribute:
        return _grouped(endpoints, lambda _: 0)
    if spread.setting.failover_priority:
        rank = _label_rank(spread.setting.failover_priority, spread.caller)
    else:
        targets = {own.from_: own.to for own in spread.setting.failover}
        rank = _locality_rank(spread.caller.locality, targets)
    return _contiguous(_grouped(endpoints, rank))


def _grouped(endpoints: Iterable[Endpoint], rank: Callable[[Endpoint], int]) -> list[Group]:
    found: dict[tuple[int, str], Group] = {}
    for endpoint in endpoints:
        key = rank(endpoint), endpoint.workload.locality
        group = found.setdefault(key, Group(key[1], key[0]))
        group.endpoints.append(endpoint)
        group.weight += 1
    return [found[key] for key in sorted(found)]


def _distributed(own: Sequence[Group], distribute: LocalityDistribute) -> Iterator[Group]:
    """Each entry's share is parted by the number of endpoints; localities that no entry names get nothing."""
    left = list(own)
    for pattern, share in distribute.to.items():
        chosen = [group for group in left if _covers(pattern, group.locality)]
        left = [group for group in left if group not in chosen]
        total = sum(group.weight for group in chosen)
        for group in chosen if share > 0 else ():
            group.weight = math.ceil(group.weight * share / total)
            yield group


def _covers(pattern: str, locality: str) -> bool:
    """`*` stands for the rest, and so does what a pattern leaves out."""
    parts = (*locality.split("/"), "", "")
    for wanted, part in zip(pattern.split("/"), parts, strict=False):
        if wanted == "*":
            return True
        if wanted != part:
            return False
    return True


def _locality_rank(caller: str, targets: Mapping[str, str]) -> Callable[[Endpoint], int]:
    """The nearer the better; of other regions first the one that `failover` names for the client's."""
    own = (*caller.split("/"), "", "")[:3]

    def rank(endpoint: Endpoint) -> int:
        theirs = (*endpoint.workload.locality.split("/"), "", "")[:3]
        if theirs[0] != own[0]:
            return 3 if targets.get(own[0], theirs[0]) == theirs[0] else 4
        if theirs[1] != own[1]:
            return 2
        return 0 if theirs[2] == own[2] else 1

    return rank


def _label_rank(wanted: Sequence[str], caller: Caller) -> Callable[[Endpoint], int]:
    """By how many of the labels, in their order, an endpoint has as the client has them (or as the entry says)."""
    mine = {**_topology(caller.locality), **dict(caller.labels)}
    entries = (own.partition("=") for own in wanted)
    pairs = [(key, value if given else mine.get(key, "")) for key, given, value in entries]

    def rank(endpoint: Endpoint) -> int:
        theirs = {**_topology(endpoint.workload.locality), **endpoint.workload.labels}
        matched = 0
        for key, value in pairs:
            if theirs.get(key, "") != value:
                break
            matched += 1
        return len(pairs) - matched

    return rank


def _topology(locality: str) -> dict[str, str]:
    return {key: part for key, part in zip((REGION, ZONE, SUBZONE), locality.split("/"), strict=False) if part}


def _contiguous(own: list[Group]) -> list[Group]:
    """Envoy wants priorities without gaps."""
    places = {priority: place for place, priority in enumerate(sorted({group.priority for group in own}))}
    for group in own:
        group.priority = places[group.priority]
    return own
