"""The set of objects under analysis, indexed for the questions that analyzers ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from mesh.api.authorization_policy import AuthorizationPolicy
from mesh.api.core import Secret, Service
from mesh.api.destination_rule import DestinationRule, Subset
from mesh.api.gateway import Gateway
from mesh.api.meta import Resource
from mesh.api.peer_authentication import PeerAuthentication
from mesh.api.pod import Container, Deployment, Pod
from mesh.api.request_authentication import RequestAuthentication
from mesh.api.service_entry import ServiceEntry
from mesh.api.virtual_service import Destination, VirtualService
from mesh.config.decode import Manifest
from mesh.config.problems import Path

T = TypeVar("T", bound=Resource)

MESH_GATEWAY = "mesh"
CLUSTER_SUFFIX = ".svc.cluster.local"


@dataclass(frozen=True, slots=True)
class Of(Generic[T]):
    """An object of a known kind, with the manifest it came from."""

    manifest: Manifest
    resource: T


@dataclass(frozen=True, slots=True)
class Workload:
    """Pods that are alike: a Deployment's, or one on its own."""

    namespace: str
    labels: Mapping[str, str]
    replicas: int
    containers: Sequence[Container]


@dataclass(frozen=True, slots=True)
class Routed:
    """A destination of a VirtualService and where it stands. `host` is the full name."""

    destination: Destination
    host: str
    path: Path


def full_host(host: str, namespace: str) -> str:
    """Istio's short-name rule: a name without dots is a service of the resource's own namespace."""
    return host if "." in host or host == "*" else f"{host}.{namespace}{CLUSTER_SUFFIX}"


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


class View:
    """Indexes are built when first asked for."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self._manifests = tuple(manifests)

    def _of(self, kind: type[T]) -> tuple[Of[T], ...]:
        return tuple(Of(m, m.resource) for m in self._manifests if isinstance(m.resource, kind))

    @cached_property
    def virtual_services(self) -> tuple[Of[VirtualService], ...]:
        return self._of(VirtualService)

    @cached_property
    def destination_rules(self) -> tuple[Of[DestinationRule], ...]:
        return self._of(DestinationRule)

    @cached_property
    def gateways(self) -> Mapping[str, Of[Gateway]]:
        """By `namespace/name`."""
        return {f"{gateway.resource.namespace}/{gateway.resource.name}": gateway for gateway in self._of(Gateway)}

    @cached_property
    def selecting_policies(self) -> tuple[Of[PeerAuthentication | AuthorizationPolicy | RequestAuthentication], ...]:
        """Policies that choose workloads by labels."""
        kinds = PeerAuthentication | AuthorizationPolicy | RequestAuthentication
        return tuple(Of(own, own.resource) for own in self._manifests if isinstance(own.resource, kinds))

    @cached_property
    def services(self) -> Mapping[str, Of[Service]]:
        """By full host name."""
        return {full_host(found.resource.name, found.resource.namespace): found for found in self._of(Service)}

    @cached_property
    def secrets(self) -> frozenset[tuple[str, str]]:
        """Namespace and name of each."""
        return frozenset((own.resource.namespace, own.resource.name) for own in self._of(Secret))

    @cached_property
    def outside_hosts(self) -> frozenset[str]:
        """Hosts that ServiceEntries tell of."""
        return frozenset(host for found in self._of(ServiceEntry) for host in found.resource.spec.hosts)

    @cached_property
    def workloads(self) -> tuple[Workload, ...]:
        """Deployments; and pods that no Deployment of the set would select."""
        deployments = [
            Workload(
                found.resource.namespace,
                found.resource.spec.template.metadata.labels,
                found.resource.spec.replicas,
                found.resource.spec.template.spec.serving_containers,
            )
            for found in self._of(Deployment)
        ]
        lone = [
            Workload(
                found.resource.namespace, found.resource.metadata.labels, 1, found.resource.spec.serving_containers
            )
            for found in self._of(Pod)
        ]
        owned = [pod for pod in lone if any(_owns(deployment, pod) for deployment in deployments)]
        return (*deployments, *(pod for pod in lone if pod not in owned))

    def behind(self, service: Service, subset: Subset | None = None) -> list[Workload]:
        """The workloads that a Service selects, or one subset of them; none for a Service without selector."""
        if not service.spec.selector:
            return []
        labels = subset.labels if subset else {}
        return [
            workload
            for workload in self.workloads
            if workload.namespace == service.namespace
            and matches(service.spec.selector, workload.labels)
            and matches(labels, workload.labels)
        ]

    def rules_for(self, host: str) -> Iterator[Of[DestinationRule]]:
        """DestinationRules whose host holds this full name."""
        for rule in self.destination_rules:
            pattern = full_host(rule.resource.spec.host, rule.resource.namespace)
            if pattern == host or (pattern.startswith("*") and host.endswith(pattern[1:])):
                yield rule


def _owns(deployment: Workload, pod: Workload) -> bool:
    return deployment.namespace == pod.namespace and matches(deployment.labels, pod.labels)


def gateway_key(reference: str, namespace: str) -> str:
    """A VirtualService's entry of `gateways` as `namespace/name`; `mesh` stays."""
    return reference if reference == MESH_GATEWAY or "/" in reference else f"{namespace}/{reference}"


def bound_gateways(virtual_service: VirtualService) -> list[str]:
    """`mesh`, or `namespace/name`, for each gateway; `mesh` alone when none is named."""
    named = virtual_service.spec.gateways or (MESH_GATEWAY,)
    return [gateway_key(reference, virtual_service.namespace) for reference in named]


def routed(virtual_service: VirtualService) -> Iterator[Routed]:
    """Every destination that traffic, mirrored or not, is sent to."""
    namespace = virtual_service.namespace

    def at(destination: Destination, *path: str | int) -> Routed:
        return Routed(destination, full_host(destination.host, namespace), ("spec", *path))

    for index, http in enumerate(virtual_service.spec.http):
        for number, target in enumerate(http.route):
            yield at(target.destination, "http", index, "route", number, "destination")
        if http.mirror is not None:
            yield at(http.mirror, "http", index, "mirror")
        for number, mirror in enumerate(http.mirrors):
            yield at(mirror.destination, "http", index, "mirrors", number, "destination")
    for index, tcp in enumerate(virtual_service.spec.tcp):
        for number, plain in enumerate(tcp.route):
            yield at(plain.destination, "tcp", index, "route", number, "destination")
    for index, tls in enumerate(virtual_service.spec.tls):
        for number, plain in enumerate(tls.route):
            yield at(plain.destination, "tls", index, "route", number, "destination")
