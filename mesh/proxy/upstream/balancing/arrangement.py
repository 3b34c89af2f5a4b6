"""From the hosts of a cluster, as they are now, to the balancer that picks among them.

Built anew when membership or health changes. The common case, one priority that carries everything, is the policy's own
balancer with nothing around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from mesh.proxy.upstream.balancing import policies
from mesh.proxy.upstream.balancing.balancer import Balancer, Make
from mesh.proxy.upstream.balancing.hashing import MakeHashed, Share
from mesh.proxy.upstream.balancing.localities import Localities
from mesh.proxy.upstream.balancing.member import Locality, Member, Standing
from mesh.proxy.upstream.balancing.priorities import Census, spread
from mesh.proxy.upstream.balancing.spreads import BalancerStats, HashSpread, Nobody, Panicking, Spread


@dataclass(frozen=True, slots=True)
class LoadBalancing:
    """A load balancing policy and what of `common_lb_config` bears on it.

    `make` is the policy over a list of hosts; `make_hashed`, if there is one, is a policy that hashes. Given the
    cluster's requests in flight, it makes the policy over hosts with their shares.
    """

    make: Make = policies.round_robin
    make_hashed: Callable[[Callable[[], int]], MakeHashed] | None = None
    is_locality_weighted: bool = False
    panic_threshold: int = 50
    fails_in_panic: bool = False
    uses_hostnames: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What of a ClusterLoadAssignment's policy bears on balancing. `overprovisioning` is in percent."""

    overprovisioning: int = 140
    by_weight: bool = False


def arrange(
    members: Sequence[Member], balancing: LoadBalancing, rules: Rules, stats: BalancerStats, active: Callable[[], int]
) -> Balancer:
    """The balancer over `members`."""
    make_spread: type[Spread] = Spread
    build: Callable[[Sequence[Member], Standing, bool], Balancer] = partial(_plain, balancing, rules)
    if balancing.make_hashed is not None:
        make_spread = HashSpread
        build = partial(_hashed, balancing, balancing.make_hashed(active), stats)
    if not members:
        return build((), Standing.HEALTHY, False)
    sets: list[list[Member]] = [[] for _ in range(max(member.priority for member in members) + 1)]
    for member in members:
        sets[member.priority].append(member)
    loads = spread([_census(each, rules.by_weight) for each in sets], rules.overprovisioning, balancing.panic_threshold)
    targets: list[tuple[int, Balancer]] = []
    for standing, shares in ((Standing.HEALTHY, loads.healthy), (Standing.DEGRADED, loads.degraded)):
        for priority, share in enumerate(shares):
            if share:
                balancer = build(sets[priority], standing, loads.panic[priority])
                targets.append((share, Panicking(balancer, stats) if loads.panic[priority] else balancer))
    return targets[0][1] if len(targets) == 1 else make_spread(targets)


def _census(hosts: Sequence[Member], by_weight: bool) -> Census:
    counted = [host for host in hosts if host.standing.counts]
    healthy = [host for host in counted if host.standing == Standing.HEALTHY]
    degraded = [host for host in counted if host.standing == Standing.DEGRADED]
    weigh: Callable[[Sequence[Member]], int] = _weight if by_weight else len
    return Census(
        len(hosts), len(counted), len(healthy), len(degraded), weigh(counted), weigh(healthy), weigh(degraded)
    )


def _weight(hosts: Sequence[Member]) -> int:
    return sum(host.weight for host in hosts)


def _plain(
    balancing: LoadBalancing, rules: Rules, hosts: Sequence[Member], standing: Standing, in_panic: bool
) -> Balancer:
    if in_panic:
        return Nobody() if balancing.fails_in_panic else balancing.make(hosts)
    if balancing.is_locality_weighted:
        localities = Localities(_by_locality(hosts), standing, rules.overprovisioning, balancing.make)
        if localities:
            return localities
    return balancing.make([host for host in hosts if host.standing == standing])


def _by_locality(hosts: Sequence[Member]) -> list[list[Member]]:
    found: dict[Locality, list[Member]] = {}
    for host in hosts:
        found.setdefault(host.locality, []).append(host)
    return list(found.values())


def _hashed(  # noqa: PLR0917 - the first three are bound once
    balancing: LoadBalancing,
    make: MakeHashed,
    stats: BalancerStats,
    hosts: Sequence[Member],
    standing: Standing,
    in_panic: bool,
) -> Balancer:
    # Envoy's hashing balancers have one table a priority, of its healthy hosts, whoever the load is meant for.
    eligible = hosts if in_panic else [host for host in hosts if host.standing == Standing.HEALTHY]
    hashed = make(_hash_shares(hosts, eligible) if balancing.is_locality_weighted else _shares(eligible, 1.0))
    stats.hash_sizes = hashed.sizes()
    return hashed


def _hash_shares(hosts: Sequence[Member], eligible: Sequence[Member]) -> list[Share]:
    # Envoy's share of a locality is of all localities' weights, whether they have hosts left or not.
    total = sum(group[0].locality_weight for group in _by_locality(hosts))
    shares: list[Share] = []
    for group in _by_locality(eligible):
        if group[0].locality_weight:
            shares += _shares(group, group[0].locality_weight / total)
    return shares


def _shares(hosts: Sequence[Member], whole: float) -> list[Share]:
    total = sum(host.weight for host in hosts)
    return [(host, host.weight * whole / total) for host in hosts]
