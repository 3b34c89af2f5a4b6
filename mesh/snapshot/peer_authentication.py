"""The effective mTLS mode of a workload's port: port over workload over namespace over mesh."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mesh.api.peer_authentication import MutualTLS, MutualTLSMode, PeerAuthentication
from mesh.registry.types import Workload
from mesh.snapshot.order import age

DEFAULT_MODE: Final = MutualTLSMode.PERMISSIVE


@dataclass(frozen=True, slots=True)
class PeerAuthenticationIndex:
    """`wide` is the oldest policy without selector of each namespace; `narrow` those with one, oldest first."""

    root_namespace: str
    wide: Mapping[str, PeerAuthentication] = field(default_factory=dict)
    narrow: Mapping[str, tuple[PeerAuthentication, ...]] = field(default_factory=dict)

    def mode(self, workload: Workload, port: int) -> MutualTLSMode:
        """STRICT, PERMISSIVE or DISABLE for a container port; UNSET inherits from the next wider scope."""
        own = self._of_workload(workload)
        candidates = (
            own.spec.port_level_mtls.get(port) if own else None,
            own.spec.mtls if own else None,
            self._of_namespace(workload.namespace),
            self._of_namespace(self.root_namespace),
        )
        modes = (mtls.mode for mtls in candidates if mtls is not None)
        return next((mode for mode in modes if mode is not MutualTLSMode.UNSET), DEFAULT_MODE)

    def ports(self, workload: Workload) -> frozenset[int]:
        """The ports that have a mode of their own."""
        own = self._of_workload(workload)
        return frozenset(own.spec.port_level_mtls) if own else frozenset()

    def _of_workload(self, workload: Workload) -> PeerAuthentication | None:
        labels = workload.labels.items()
        for policy in self.narrow.get(workload.namespace, ()):
            if policy.spec.selector is not None and policy.spec.selector.match_labels.items() <= labels:
                return policy
        return None

    def _of_namespace(self, namespace: str) -> MutualTLS | None:
        policy = self.wide.get(namespace)
        return policy.spec.mtls if policy else None


def index(policies: Iterable[PeerAuthentication], root_namespace: str) -> PeerAuthenticationIndex:
    """Sort policies into scopes; within one the oldest wins. A selector without labels is no selector."""
    wide: dict[str, PeerAuthentication] = {}
    narrow: dict[str, list[PeerAuthentication]] = {}
    for policy in sorted(policies, key=age):
        if policy.spec.selector is None or not policy.spec.selector.match_labels:
            wide.setdefault(policy.namespace, policy)
        else:
            narrow.setdefault(policy.namespace, []).append(policy)
    return PeerAuthenticationIndex(root_namespace, wide, {name: tuple(own) for name, own in narrow.items()})
