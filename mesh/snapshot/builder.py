"""Builds each snapshot from the former one and what changed since."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from mesh.api.authorization_policy import AuthorizationPolicy
from mesh.api.core import ConfigMap, Secret
from mesh.api.destination_rule import DestinationRule
from mesh.api.gateway import Gateway
from mesh.api.mesh_config import MeshConfig
from mesh.api.meta import Resource
from mesh.api.peer_authentication import PeerAuthentication
from mesh.api.request_authentication import RequestAuthentication
from mesh.api.virtual_service import VirtualService
from mesh.config.mesh_config import holds_mesh_config, read_mesh_config
from mesh.config.problems import ProblemList, Source
from mesh.registry.changes import RegistryChange
from mesh.snapshot import credentials, destination_rules, gateways, peer_authentication, scoped, virtual_services
from mesh.snapshot.options import MeshOptions
from mesh.snapshot.snapshot import MeshSnapshot

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R", bound=Resource)

_KINDS: Final[tuple[type[Resource], ...]] = (
    VirtualService, DestinationRule, Gateway, PeerAuthentication, AuthorizationPolicy, RequestAuthentication, Secret,
)  # fmt: skip


class SnapshotBuilder:
    """Collects changes; `build` turns them into the next snapshot. Not thread-safe; does no I/O.

    An index is made anew only when a resource of its kind changed, and a table copied only when an entry did.
    """

    def __init__(self, options: MeshOptions) -> None:
        self._options = options
        self._resources: dict[type[Resource], dict[tuple[str, str], Resource]] = {kind: {} for kind in _KINDS}
        self._dirty: set[type[Resource]] = set()
        self._services_dirty = False
        self._mesh_config: MeshConfig | None = None
        root = options.root_namespace
        self._latest = MeshSnapshot(
            options=options,
            resource_version=0,
            config_generation=0,
            destination_rules=destination_rules.index((), root),
            virtual_services=virtual_services.index(()),
            gateways=gateways.index(()),
            peer_authentication=peer_authentication.index((), root),
            authorization=scoped.ScopedIndex(root),
            request_authentication=scoped.ScopedIndex(root),
        )

    def change_config(self, upserts: Iterable[Resource], deletions: Iterable[Resource] = ()) -> None:
        """Take in changed and deleted mesh configuration; other kinds are passed over."""
        for resource in upserts:
            if isinstance(resource, ConfigMap) and holds_mesh_config(resource):
                self._mesh_config = _mesh_config(resource)
            table = self._resources.get(type(resource))
            key = resource.namespace, resource.name
            if table is not None and table.get(key) != resource:
                table[key] = resource
                self._dirty.add(type(resource))
        for resource in deletions:
            if holds_mesh_config(resource):
                self._mesh_config = None
            table = self._resources.get(type(resource))
            if table is not None and table.pop((resource.namespace, resource.name), None) is not None:
                self._dirty.add(type(resource))

    def change_registry(self, change: RegistryChange) -> None:
        """Take in what a registry tells; a `changes.Listener`."""
        former = self._latest
        self._services_dirty |= bool(change.services or change.accounts)
        self._latest = replace(
            former,
            services=_merged(former.services, change.services),
            workloads=_merged(former.workloads, change.workloads),
            endpoints=_merged(former.endpoints, change.endpoints),
            accounts=_merged(former.accounts, change.accounts),
            selecting=_merged(former.selecting, change.selecting),
        )

    def build(self, resource_version: int) -> MeshSnapshot:
        """The snapshot of all changes so far."""
        former = self._latest
        root = self._options.root_namespace
        dirty = self._dirty
        options = self._effective_options()
        rules, routes = former.destination_rules, former.virtual_services
        self._latest = replace(
            former,
            resource_version=resource_version,
            options=options,
            config_generation=former.config_generation
            + bool(dirty or self._services_dirty or options != former.options),
            destination_rules=destination_rules.index(self._of(DestinationRule), root, rules)
            if DestinationRule in dirty
            else rules,
            virtual_services=virtual_services.index(self._of(VirtualService), routes)
            if VirtualService in dirty
            else routes,
            gateways=gateways.index(self._of(Gateway)) if Gateway in dirty else former.gateways,
            peer_authentication=peer_authentication.index(self._of(PeerAuthentication), root)
            if PeerAuthentication in dirty
            else former.peer_authentication,
            authorization=scoped.index(self._of(AuthorizationPolicy), root)
            if AuthorizationPolicy in dirty
            else former.authorization,
            request_authentication=scoped.index(self._of(RequestAuthentication), root)
            if RequestAuthentication in dirty
            else former.request_authentication,
            credentials=credentials.index(self._of(Secret)) if Secret in dirty else former.credentials,
        )
        self._dirty = set()
        self._services_dirty = False
        return self._latest

    def _effective_options(self) -> MeshOptions:
        """Those of the start, under what the store's MeshConfig says."""
        if self._mesh_config is None:
            return self._options
        return replace(self._options, outbound_traffic_policy=self._mesh_config.outbound_traffic_policy.mode)

    def _of(self, kind: type[R]) -> list[R]:
        return [resource for resource in self._resources[kind].values() if isinstance(resource, kind)]


def _mesh_config(config_map: ConfigMap) -> MeshConfig | None:
    problems = ProblemList(Source(), f"ConfigMap {config_map.namespace}/{config_map.name}")
    found = read_mesh_config(config_map, problems)
    for problem in problems.all():
        # It was refused where it was written, unless by a version that did not look into it.
        log.error("%s; the mesh has its defaults", problem)
    return None if len(problems) else found


def _merged(former: Mapping[K, V], changed: Mapping[K, V | None]) -> Mapping[K, V]:
    if not changed:
        return former
    merged = dict(former)
    for key, value in changed.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged
