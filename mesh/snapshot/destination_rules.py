"""DestinationRules by host: merging within a namespace and the order of lookup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mesh.api.destination_rule import DestinationRule, LoadBalancerSettings, Subset, TrafficPolicy
from mesh.registry.types import Service, resolve_host
from mesh.snapshot.order import age, exported, host_matches, specificity


@dataclass(frozen=True, slots=True)
class MergedRule:
    """The DestinationRules of one namespace for one host, as one.

    Subsets are united, the first of a name stays; the first traffic policy stays. `sources` are in order of age.
    `hashes`: whether some load balancer of it chooses by consistent hash, which routes have to know. `label_keys` are
    the labels of clients that some `failoverPriority` of it asks about.
    """

    host: str
    namespace: str
    traffic_policy: TrafficPolicy | None
    subsets: tuple[Subset, ...]
    sources: tuple[DestinationRule, ...]
    hashes: bool = False
    label_keys: frozenset[str] = frozenset()

    @property
    def export_to(self) -> tuple[str, ...]:
        return self.sources[0].spec.export_to


@dataclass(frozen=True, slots=True)
class DestinationRuleIndex:
    """Merged rules by namespace and host; `wild` are those for host patterns, the most specific first.

    `hashes`: whether any rule does; `label_keys`: those of all.
    """

    root_namespace: str
    by_namespace: Mapping[str, Mapping[str, MergedRule]] = field(default_factory=dict)
    wild: Mapping[str, tuple[MergedRule, ...]] = field(default_factory=dict)
    hashes: bool = False
    label_keys: frozenset[str] = frozenset()

    def lookup(self, service: Service, viewer: str) -> MergedRule | None:
        """The rule that clients in namespace `viewer` follow: theirs, else the service's, else the root namespace's.

        Within the first namespace that has a match, the most specific host wins. Another namespace's rule counts only
        if it is exported to the viewer.
        """
        for namespace in dict.fromkeys((viewer, service.namespace, self.root_namespace)):
            rule = self._most_specific(namespace, service.host, viewer)
            if rule is not None:
                return rule
        return None

    def _most_specific(self, namespace: str, host: str, viewer: str) -> MergedRule | None:
        rules = self.by_namespace.get(namespace, {})
        exact = rules.get(host)
        if exact is not None and exported(exact.export_to, namespace, viewer):
            return exact
        seen = (
            rule
            for rule in self.wild.get(namespace, ())
            if host_matches(rule.host, host) and exported(rule.export_to, namespace, viewer)
        )
        return next(seen, None)


def index(
    rules: Iterable[DestinationRule], root_namespace: str, former: DestinationRuleIndex | None = None
) -> DestinationRuleIndex:
    """Merge and index. A merged rule whose sources are those of `former` is the very same object again."""
    grouped: dict[tuple[str, str], list[DestinationRule]] = {}
    for rule in sorted(rules, key=age):
        grouped.setdefault((rule.namespace, resolve_host(rule.spec.host, rule.namespace)), []).append(rule)
    by_namespace: dict[str, dict[str, MergedRule]] = {}
    for (namespace, host), sources in grouped.items():
        old = former.by_namespace.get(namespace, {}).get(host) if former else None
        by_namespace.setdefault(namespace, {})[host] = _merge(host, namespace, tuple(sources), old)
    wild = {
        namespace: tuple(sorted(patterns, key=lambda rule: specificity(rule.host), reverse=True))
        for namespace, rules_of in by_namespace.items()
        if (patterns := [rule for rule in rules_of.values() if rule.host.startswith("*")])
    }
    merged = [rule for rules_of in by_namespace.values() for rule in rules_of.values()]
    keys = frozenset(key for rule in merged for key in rule.label_keys)
    return DestinationRuleIndex(root_namespace, by_namespace, wild, any(rule.hashes for rule in merged), keys)


def _merge(host: str, namespace: str, sources: tuple[DestinationRule, ...], old: MergedRule | None) -> MergedRule:
    if old is not None and old.sources == sources:
        return old
    policy = next((rule.spec.traffic_policy for rule in sources if rule.spec.traffic_policy is not None), None)
    subsets: dict[str, Subset] = {}
    for rule in sources:
        for subset in rule.spec.subsets:
            subsets.setdefault(subset.name, subset)
    policies = (policy, *(subset.traffic_policy for subset in subsets.values()))
    balancers = [balancer for own in policies for balancer in _balancers(own)]
    return MergedRule(
        host,
        namespace,
        policy,
        tuple(subsets.values()),
        sources,
        hashes=any(own.consistent_hash is not None for own in balancers),
        label_keys=frozenset(key for own in balancers for key in _label_keys(own)),
    )


def _balancers(policy: TrafficPolicy | None) -> Iterator[LoadBalancerSettings]:
    if policy is not None:
        every = (policy.load_balancer, *(port.load_balancer for port in policy.port_level_settings))
        yield from (own for own in every if own is not None)


def _label_keys(balancer: LoadBalancerSettings) -> Iterator[str]:
    """An entry `key=value` asks for the endpoint's label alone."""
    setting = balancer.locality_lb_setting
    yield from (entry for entry in (setting.failover_priority if setting else ()) if "=" not in entry)
