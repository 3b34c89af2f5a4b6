"""The analyzers, and one call for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from mesh.config.analyze.credentials import gateway_credentials
from mesh.config.analyze.hosts import (
    conflicting_gateways,
    duplicate_certificates,
    gateway_hosts,
    ingress_subsets,
    mesh_hosts,
)
from mesh.config.analyze.message import Message, in_order, of_problems
from mesh.config.analyze.ports import gateway_ports, port_names
from mesh.config.analyze.references import (
    delegate_references,
    destination_hosts,
    destination_rule_hosts,
    gateway_references,
    gateway_selectors,
    policy_selectors,
    subset_selections,
)
from mesh.config.analyze.routes import destination_ports, unreachable_rules
from mesh.config.analyze.traffic_policies import outlier_detection, server_certificates
from mesh.config.analyze.view import View
from mesh.config.decode import Manifest
from mesh.config.keys import Key, key_of
from mesh.config.problems import Problem
from mesh.config.validate import validate

ANALYZERS: tuple[Callable[[View], Iterator[Message]], ...] = (
    delegate_references,
    gateway_references,
    gateway_selectors,
    gateway_credentials,
    destination_hosts,
    destination_rule_hosts,
    subset_selections,
    policy_selectors,
    mesh_hosts,
    gateway_hosts,
    ingress_subsets,
    conflicting_gateways,
    duplicate_certificates,
    destination_ports,
    unreachable_rules,
    port_names,
    gateway_ports,
    server_certificates,
    outlier_detection,
)


def analyze(
    manifests: Iterable[Manifest], problems: Iterable[Problem] = (), beneath: Iterable[Manifest] = ()
) -> tuple[Message, ...]:
    """Messages about `manifests` laid over `beneath` (such as a store's content), in the order of their files.

    `problems` are those of decoding; they come as IST0106, with the ones that validation adds. What is beneath has been
    validated when it was written.
    """
    given = tuple(manifests)
    objects: dict[Key, Manifest] = {key_of(manifest): manifest for manifest in (*beneath, *given)}
    view = View(objects.values())
    refused = [*problems, *_repeated(given), *(problem for manifest in given for problem in validate(manifest))]
    found = [message for analyzer in ANALYZERS for message in analyzer(view)]
    return in_order([*of_problems(refused), *found])


def _repeated(manifests: Iterable[Manifest]) -> Iterator[Problem]:
    seen: dict[Key, Manifest] = {}
    for manifest in manifests:
        first = seen.setdefault(key_of(manifest), manifest)
        if first is not manifest:
            source = manifest.source
            text = f"is given twice, first at {first.source.location()}; keep one"
            yield Problem(text, "", source.file, source.line(), str(manifest))
