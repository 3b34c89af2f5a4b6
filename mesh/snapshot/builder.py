"""Builds each snapshot from the former one and what changed since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from mesh.api.destination_rule import DestinationRule
from mesh.api.gateway import Gateway
from mesh.api.meta import Resource
from mesh.api.peer_authentication import PeerAuthentication
from mesh.api.virtual_service import VirtualService
from mesh.registry.changes import RegistryChange
from mesh.snapshot import destination_rules, gateways, peer_authentication, virtual_services
from mesh.snapshot.options import MeshOptions
from mesh.snapshot.snapshot import MeshSnapshot

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R", bound=Resource)

_KINDS: Final[tuple[type[Resource], ...]] = (VirtualService, DestinationRule, Gateway, PeerAuthentication)


class SnapshotBuilder:
    """Collects changes; `build` turns them into the next snapshot. Not thread-safe; does no I/O.

    An index is made anew only when a resource of its kind changed, and a table copied only when an entry did.
    """

    def __init__(self, options: MeshOptions) -> None:
        self._options = options
        self._resources: dict[type[Resource], dict[tuple[str, str], Resource]] = {kind: {} for kind in _KINDS}
        self._dirty: set[type[Resource]] = set()
        self._services_dirty = False
        root = options.root_namespace
        self._latest = MeshSnapshot(
            options=options,
            resource_version=0,
            config_generation=0,
            destination_rules=destination_rules.index((), root),
            virtual_services=virtual_services.index(()),
            gateways=gateways.index(()),
            peer_authentication=peer_authentication.index((), root),
        )

    def change_config(self, upserts: Iterable[Resource], deletions: Iterable[Resource] = ()) -> None:
        """Take in changed and deleted mesh configuration; other kinds are passed over."""
        for resource in upserts:
            table = self._resources.get(type(resource))
            key = resource.namespace, resource.name
            if table is not None and table.get(key) != resource:
                table[key] = resource
                self._dirty.add(type(resource))
        for resource in deletions:
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
        rules, routes = former.destination_rules, former.virtual_services
        self._latest = replace(
            former,
            resource_version=resource_version,
            config_generation=former.config_generation + bool(dirty or self._services_dirty),
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
        )
        self._dirty = set()
        self._services_dirty = False
        return self._latest

    def _of(self, kind: type[R]) -> list[R]:
        return [resource for resource in self._resources[kind].values() if isinstance(resource, kind)]


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
