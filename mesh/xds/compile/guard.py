"""Who may do what at a workload: the filters of its RequestAuthentications and AuthorizationPolicies, in Istio's order.

Tokens are read first; then come the policies that only report (AUDIT), those that deny, and those that allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac

from mesh.api.authorization_policy import DRY_RUN, Action, AuthorizationPolicy
from mesh.api.request_authentication import RequestAuthentication
from mesh.registry.types import Workload
from mesh.snapshot.snapshot import MeshSnapshot
from mesh.xds.compile import jwt, rbac
from mesh.xds.compile.messages import packed

_STAT_PREFIX: Final = "tcp."
_TRUE: Final = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_ACTIONS: Final = (
    (Action.AUDIT, RBAC.LOG, ""),
    (Action.DENY, RBAC.DENY, "istio_dry_run_deny_"),
    (Action.ALLOW, RBAC.ALLOW, "istio_dry_run_allow_"),
)
_NO_PORTS: Final[Mapping[int, tuple[int, ...]]] = {}


@dataclass(frozen=True, slots=True)
class Guard:
    """The policies of one workload. `key_sources` say where issuers' keys come from."""

    authorization: tuple[AuthorizationPolicy, ...] = ()
    authentication: tuple[RequestAuthentication, ...] = ()
    key_sources: tuple[jwt.KeySource, ...] = ()

    def http_filters(self, ports: Mapping[int, tuple[int, ...]] = _NO_PORTS) -> Iterator[HttpFilter]:
        """For requests. `ports` are the numbers by which connections may also come to a port."""
        if jwt.jwt_rules(self.authentication):
            tokens = jwt.authentication(self.authentication, self.key_sources)
            yield HttpFilter(name=rbac.JWT_FILTER, typed_config=packed(tokens))
        for own in self._by_action(is_http=True, ports=ports):
            config = http_rbac.RBAC(rules=own.rules, shadow_rules=own.shadow, shadow_rules_stat_prefix=own.prefix)
            yield HttpFilter(name="envoy.filters.http.rbac", typed_config=packed(config))

    def network_filters(self, ports: Mapping[int, tuple[int, ...]] = _NO_PORTS) -> Iterator[Filter]:
        """For connections that carry no requests."""
        for own in self._by_action(is_http=False, ports=ports):
            config = network_rbac.RBAC(
                rules=own.rules,
                shadow_rules=own.shadow,
                shadow_rules_stat_prefix=own.prefix,
                stat_prefix=_STAT_PREFIX,
            )
            yield Filter(name="envoy.filters.network.rbac", typed_config=packed(config))

    def _by_action(self, *, is_http: bool, ports: Mapping[int, tuple[int, ...]]) -> Iterator[_Decision]:
        for action, envoys, prefix in _ACTIONS:
            chosen = [own for own in self.authorization if own.spec.action is action]
            dry = [own for own in chosen if own.metadata.annotations.get(DRY_RUN) in _TRUE]
            wet = [own for own in chosen if own not in dry]
            if chosen:
                yield _Decision(
                    rbac.rules(wet, envoys, is_http, ports) if wet else None,
                    rbac.rules(dry, envoys, is_http, ports) if dry else None,
                    prefix if dry else "",
                )


@dataclass(frozen=True, slots=True)
class _Decision:
    """What one action's filter enforces, and what it only reports. Without rules it lets everything pass."""

    rules: RBAC | None
    shadow: RBAC | None
    prefix: str


NO_GUARD: Final = Guard()


def guard_of(snapshot: MeshSnapshot, workload: Workload) -> Guard:
    """Whatever of the mesh's and the namespace's policies selects the workload."""
    tokens = snapshot.request_authentication.of(workload)
    return Guard(snapshot.authorization.of(workload), tokens, jwt.key_sources(tokens, snapshot.services))
