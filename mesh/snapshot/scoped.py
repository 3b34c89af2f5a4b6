"""Policies that add up: those of the mesh, of a workload's namespace, and of the workload itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mesh.api.authorization_policy import AuthorizationPolicy
from mesh.api.request_authentication import RequestAuthentication
from mesh.registry.types import Workload
from mesh.snapshot.order import age

P = TypeVar("P", AuthorizationPolicy, RequestAuthentication)


@dataclass(frozen=True, slots=True)
class ScopedIndex(Generic[P]):
    """Policies by namespace, oldest first. Those of the root namespace apply to all."""

    root_namespace: str
    policies: Mapping[str, tuple[P, ...]] = field(default_factory=dict)

    def of(self, workload: Workload) -> tuple[P, ...]:
        """Whatever applies to a workload; the root namespace's first."""
        scopes = dict.fromkeys((self.root_namespace, workload.namespace))
        return tuple(own for scope in scopes for own in self.policies.get(scope, ()) if _selects(own, workload))


def index(policies: Iterable[P], root_namespace: str) -> ScopedIndex[P]:
    by_namespace: dict[str, list[P]] = {}
    for policy in sorted(policies, key=age):
        by_namespace.setdefault(policy.namespace, []).append(policy)
    return ScopedIndex(root_namespace, {name: tuple(own) for name, own in by_namespace.items()})


def _selects(policy: AuthorizationPolicy | RequestAuthentication, workload: Workload) -> bool:
    """A policy without selector, or with one without labels, applies to its whole scope."""
    selector = policy.spec.selector
    return selector is None or selector.match_labels.items() <= workload.labels.items()
