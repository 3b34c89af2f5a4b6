"""Names that lead nowhere: gateways, hosts, subsets, selectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from mesh.api.peer_authentication import PeerAuthentication
from mesh.config.analyze.message import (
    NO_MATCHING_WORKLOADS,
    REFERENCED_RESOURCE_NOT_FOUND,
    SUBSET_SELECTS_NO_PODS,
    UNKNOWN_DESTINATION_HOST,
    Message,
    about,
)
from mesh.config.analyze.view import (
    CLUSTER_SUFFIX,
    MESH_GATEWAY,
    View,
    full_host,
    gateway_key,
    matches,
    routed,
)
from mesh.config.scalars import did_you_mean

_ROOT: Final = "istio-system"


def gateway_references(view: View) -> Iterator[Message]:
    """IST0101: a VirtualService names a Gateway that is not there."""
    for found in view.virtual_services:
        for index, reference in enumerate(found.resource.spec.gateways):
            key = gateway_key(reference, found.resource.namespace)
            if key != MESH_GATEWAY and key not in view.gateways:
                text = f'Referenced gateway not found: "{reference}"{_hint(key, view.gateways)}'
                yield about(found.manifest, ("spec", "gateways", index), REFERENCED_RESOURCE_NOT_FOUND, text)


def delegate_references(view: View) -> Iterator[Message]:
    """IST0101: a route delegates to a VirtualService that is not there, or that has hosts of its own."""
    delegates = {
        f"{own.resource.namespace}/{own.resource.name}" for own in view.virtual_services if not own.resource.spec.hosts
    }
    for found in view.virtual_services:
        for index, route in enumerate(found.resource.spec.http):
            if route.delegate is None:
                continue
            key = f"{route.delegate.namespace or found.resource.namespace}/{route.delegate.name}"
            if key not in delegates:
                text = f'Referenced delegate not found: "{key}", a VirtualService without hosts{_hint(key, delegates)}'
                yield about(found.manifest, ("spec", "http", index, "delegate"), REFERENCED_RESOURCE_NOT_FOUND, text)


def gateway_selectors(view: View) -> Iterator[Message]:
    """IST0101: a Gateway selects no workload."""
    for found in view.gateways.values():
        selector = found.resource.spec.selector
        if selector and not any(matches(selector, workload.labels) for workload in view.workloads):
            text = f'Referenced selector not found: "{_pairs(selector)}"'
            yield about(found.manifest, ("spec", "selector"), REFERENCED_RESOURCE_NOT_FOUND, text)


def destination_hosts(view: View) -> Iterator[Message]:
    """IST0101: a route leads to a host that no Service has, or to a subset that no DestinationRule defines."""
    for found in view.virtual_services:
        for target in routed(found.resource):
            host, subset = target.destination.host, target.destination.subset
            if host.startswith("*"):
                continue
            if target.host in view.outside_hosts:
                continue
            if target.host not in view.services:
                names = {_short(full, found.resource.namespace) for full in view.services}
                text = f'Referenced host not found: "{host}"{_hint(host, names)}'
                yield about(found.manifest, (*target.path, "host"), REFERENCED_RESOURCE_NOT_FOUND, text)
            elif subset:
                defined = {own.name for rule in view.rules_for(target.host) for own in rule.resource.spec.subsets}
                if subset not in defined:
                    text = f'Referenced host+subset in destinationrule not found: "{host}+{subset}"'
                    text += _hint(subset, defined)
                    yield about(found.manifest, (*target.path, "subset"), REFERENCED_RESOURCE_NOT_FOUND, text)


def destination_rule_hosts(view: View) -> Iterator[Message]:
    """IST0174: a DestinationRule is about a host that no Service has."""
    for found in view.destination_rules:
        host, namespace = found.resource.spec.host, found.resource.namespace
        full = full_host(host, namespace)
        wild = host.startswith("*")
        known = (*view.services, *view.outside_hosts)
        if not any(name.endswith(full[1:]) if wild else name == full for name in known):
            names = {_short(name, namespace) for name in view.services}
            text = f'The host "{host}" defined in the DestinationRule does not match any services{_hint(host, names)}'
            yield about(found.manifest, ("spec", "host"), UNKNOWN_DESTINATION_HOST, text)


def subset_selections(view: View) -> Iterator[Message]:
    """IST0173: a subset selects none of its Service's pods."""
    for found in view.destination_rules:
        service = view.services.get(full_host(found.resource.spec.host, found.resource.namespace))
        if service is None or not service.resource.spec.selector:
            continue
        for index, subset in enumerate(found.resource.spec.subsets):
            if not view.behind(service.resource, subset):
                text = f'The subset "{subset.name}" ({_pairs(subset.labels)}) selects no pods of {service.manifest}'
                yield about(found.manifest, ("spec", "subsets", index), SUBSET_SELECTS_NO_PODS, text)


def policy_selectors(view: View) -> Iterator[Message]:
    """IST0127: a policy selects no workload of its namespace; of the root namespace, of any where it reaches there."""
    for found in view.selecting_policies:
        selector = found.resource.spec.selector
        if selector is None or not selector.match_labels:
            continue
        is_meshwide = found.resource.namespace == _ROOT and not isinstance(found.resource, PeerAuthentication)
        if not any(
            (is_meshwide or workload.namespace == found.resource.namespace)
            and matches(selector.match_labels, workload.labels)
            for workload in view.workloads
        ):
            text = f"No matching workloads for this resource with the following labels: {_pairs(selector.match_labels)}"
            yield about(found.manifest, ("spec", "selector"), NO_MATCHING_WORKLOADS, text)


def _short(full: str, namespace: str) -> str:
    return full.removesuffix(CLUSTER_SUFFIX).removesuffix(f".{namespace}")


def _pairs(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _hint(word: str, known: Iterable[str]) -> str:
    """` (did you mean "reviews"?)`, or nothing."""
    hint = did_you_mean(word, sorted(known)).removeprefix("; ")
    return f" ({hint})" if hint else ""
