"""The registry adapter for Kubernetes objects and ServiceEntries: what the endpoint controller does."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias, TypeVar

from mesh.api import core
from mesh.api.meta import Resource
from mesh.api.pod import Pod
from mesh.api.service_entry import ServiceEntry
from mesh.registry.changes import Listener, RegistryChange
from mesh.registry.entries import to_services, with_addresses
from mesh.registry.translate import BadAnnotationError, to_service, to_workload
from mesh.registry.types import Discovery, Endpoint, Service, Workload, WorkloadKey, by_age

log = logging.getLogger(__name__)

_Claimant: TypeAlias = tuple[str, str, str]
"""Kind, namespace and name of an object that speaks of a host."""

K = TypeVar("K")
V = TypeVar("V")


class KubernetesRegistry:
    """Keeps services, workloads and who selects whom. Not thread-safe; does no I/O."""

    def __init__(self) -> None:
        self._services: dict[str, Service] = {}
        self._claims: defaultdict[str, dict[_Claimant, Service]] = defaultdict(dict)
        self._entry_hosts: dict[_Claimant, tuple[str, ...]] = {}
        self._auto_addresses: dict[str, str] = {}
        self._workloads: dict[WorkloadKey, Workload] = {}
        self._members: dict[str, dict[WorkloadKey, Workload]] = {}
        self._selectors: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
        self._labels: defaultdict[tuple[str, str, str], set[WorkloadKey]] = defaultdict(set)
        self._endpoints: dict[str, tuple[Endpoint, ...]] = {}
        self._accounts: dict[str, tuple[str, ...]] = {}
        self._selected_by: dict[WorkloadKey, tuple[Service, ...]] = {}
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """See `Registry.subscribe`."""
        self._listeners.append(listener)

    def change(self, upserts: Iterable[Resource], deletions: Iterable[Resource] = ()) -> None:
        """Take in changed and deleted Services, Pods and ServiceEntries, pass over other kinds, and tell listeners."""
        claimed: set[str] = set()
        workloads: dict[WorkloadKey, Workload | None] = {}
        for resource, gone in _all(upserts, deletions):
            if isinstance(resource, core.Service | ServiceEntry):
                claimed |= self._claim(resource, gone)
            elif isinstance(resource, Pod):
                workloads[WorkloadKey(resource.namespace, resource.name)] = None if gone else _workload(resource)
        wanted = {host: self._winner(host) for host in sorted(claimed)}
        services = {host: new for host, new in wanted.items() if new != self._services.get(host)}
        workloads = {key: new for key, new in workloads.items() if new != self._workloads.get(key)}
        if services or workloads:
            hosts: set[str] = set(services)
            keys: set[WorkloadKey] = set(workloads)
            for key, workload in workloads.items():
                hosts |= self._replace_workload(key, workload)
            for host, service in services.items():
                keys |= self._replace_service(host, service)
            self._tell(services, workloads, hosts, keys)

    def _claim(self, resource: core.Service | ServiceEntry, gone: bool) -> set[str]:
        """Note what the object says of its hosts; the hosts that it spoke of before, or does now."""
        claimant = resource.KIND, resource.namespace, resource.name
        former = self._entry_hosts.pop(claimant, ())
        for host in former:
            del self._claims[host][claimant]
        said = [] if gone else list(self._said(resource))
        for service in said:
            self._claims[service.host][claimant] = service
        hosts = tuple(service.host for service in said)
        if hosts:
            self._entry_hosts[claimant] = hosts
        for host in former:
            if not self._claims[host]:
                del self._claims[host]
                self._auto_addresses.pop(host, None)
        return {*former, *hosts}

    def _said(self, resource: core.Service | ServiceEntry) -> Iterator[Service]:
        if isinstance(resource, ServiceEntry):
            yield from with_addresses(to_services(resource), self._auto_addresses)
        elif (service := to_service(resource)) is not None:
            yield service

    def _winner(self, host: str) -> Service | None:
        """Of several that speak of a host a Kubernetes Service counts, else the oldest."""
        claims = self._claims.get(host, {}).values()
        return min(claims, key=lambda own: (bool(own.outside_host), *by_age(own)), default=None)

    def _replace_workload(self, key: WorkloadKey, new: Workload | None) -> set[str]:
        """Returns the hosts of services that select the old workload or the new."""
        old = self._workloads.pop(key, None)
        touched: set[str] = set()
        if old is not None:
            for item in _items(old.namespace, old.labels):
                self._labels[item].discard(key)
            for host in self._selecting(old):
                del self._members[host][key]
                touched.add(host)
        if new is not None:
            self._workloads[key] = new
            for item in _items(new.namespace, new.labels):
                self._labels[item].add(key)
            for host in self._selecting(new):
                self._members[host][key] = new
                touched.add(host)
        return touched

    def _replace_service(self, host: str, new: Service | None) -> set[WorkloadKey]:
        """Returns the workloads that the old service selected or the new does."""
        old = self._services.pop(host, None)
        members = set(self._members.pop(host, ()))
        if old is not None and old.selector:
            self._selectors[_index_item(old)].discard(host)
        if new is None:
            return members
        self._services[host] = new
        self._members[host] = {}
        if new.selector:
            self._selectors[_index_item(new)].add(host)
            candidates = self._labels[_index_item(new)]
            self._members[host] = {
                key: self._workloads[key] for key in candidates if selects(new.selector, self._workloads[key].labels)
            }
        return members | set(self._members[host])

    def _selecting(self, workload: Workload) -> Iterator[str]:
        """Hosts of the services that select this workload."""
        for item in _items(workload.namespace, workload.labels):
            for host in self._selectors.get(item, ()):
                if selects(self._services[host].selector, workload.labels):
                    yield host

    def _tell(
        self,
        services: Mapping[str, Service | None],
        workloads: Mapping[WorkloadKey, Workload | None],
        hosts: Iterable[str],
        keys: Iterable[WorkloadKey],
    ) -> None:
        endpoints: dict[str, tuple[Endpoint, ...] | None] = {}
        accounts: dict[str, tuple[str, ...] | None] = {}
        selecting: dict[WorkloadKey, tuple[Service, ...] | None] = {}
        for host in sorted(hosts):
            _update(self._endpoints, endpoints, host, self._endpoints_of(host))
            _update(self._accounts, accounts, host, self._accounts_of(host))
        for key in sorted(keys):
            _update(self._selected_by, selecting, key, self._services_of(key))
        change = RegistryChange(services, workloads, endpoints, accounts, selecting)
        for listener in self._listeners:
            listener(change)

    def _services_of(self, key: WorkloadKey) -> tuple[Service, ...] | None:
        workload = self._workloads.get(key)
        if workload is None:
            return None
        services = (self._services[host] for host in set(self._selecting(workload)))
        return tuple(sorted(services, key=by_age))

    def _endpoints_of(self, host: str) -> tuple[Endpoint, ...] | None:
        service = self._services.get(host)
        if service is None:
            return None
        if service.endpoints:
            return service.endpoints if service.discovery is Discovery.REGISTRY else ()
        ready = [workload for _, workload in sorted(self._members[host].items()) if workload.ready]
        return tuple(
            Endpoint(port.number, target, workload)
            for port in service.ports
            for workload in ready
            if (target := workload.target(port)) is not None
        )

    def _accounts_of(self, host: str) -> tuple[str, ...] | None:
        if host not in self._services:
            return None
        if said := self._services[host].endpoints:
            return tuple(sorted({own.workload.service_account for own in said} - {""}))
        if not self._members[host]:
            # Between two pods of a restart there is nobody to verify; forgetting whom would change clients' clusters.
            return self._accounts.get(host, ())
        return tuple(sorted({workload.service_account for workload in self._members[host].values()}))


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Kubernetes' equality-based selection: every pair of the selector is among the labels."""
    return selector.items() <= labels.items()


def _all(upserts: Iterable[Resource], deletions: Iterable[Resource]) -> Iterator[tuple[Resource, bool]]:
    yield from ((resource, False) for resource in upserts)
    yield from ((resource, True) for resource in deletions)


def _workload(pod: Pod) -> Workload | None:
    try:
        return to_workload(pod)
    except BadAnnotationError as error:
        # One pod's bad annotation must not stop the mesh: the pod stays out of it and the operator is told.
        log.error("%s; the pod is left out of the mesh", error)
        return None


def _items(namespace: str, labels: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    return ((namespace, key, value) for key, value in labels.items())


def _index_item(service: Service) -> tuple[str, str, str]:
    """The one pair a service is indexed under; any pair would do, for a selected workload has them all."""
    key, value = min(service.selector.items())
    return service.namespace, key, value


def _update(kept: dict[K, V], changed: dict[K, V | None], key: K, new: V | None) -> None:
    """Keep a value, and note it in `changed` if it is not the one kept before."""
    if new == kept.get(key):
        return
    changed[key] = new
    if new is None:
        del kept[key]
    else:
        kept[key] = new
