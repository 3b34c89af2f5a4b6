"""Services, the workloads that run them, and their endpoints, free of any platform's objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Final, NamedTuple

from mesh.registry.protocol import Protocol

CLUSTER_DOMAIN: Final = "cluster.local"


class WorkloadKey(NamedTuple):
    """Namespace and name of a workload instance (a pod)."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a service; `target` is the container port's number or name."""

    number: int
    name: str
    protocol: Protocol
    target: int | str


class Discovery(Enum):
    """How a service's hosts are found: from the registry, by DNS (all or one), or by the client."""

    REGISTRY = auto()
    DNS = auto()
    DNS_ROUND_ROBIN = auto()
    ORIGINAL_DESTINATION = auto()


@dataclass(frozen=True, slots=True)
class Service:
    """A service by its fully qualified host name. `address` is the virtual one that clients know, empty for none.

    What a ServiceEntry says has a host of its own (`outside_host`), perhaps further addresses, and either a selector or
    its endpoints here. `external`: no part of the mesh. `export_to`: who sees it, everybody if empty.
    """

    name: str
    namespace: str
    ports: tuple[ServicePort, ...]
    selector: Mapping[str, str] = field(default_factory=dict)
    headless: bool = False
    created: datetime | None = None
    address: str = ""
    outside_host: str = ""
    more_addresses: tuple[str, ...] = ()
    discovery: Discovery = Discovery.REGISTRY
    external: bool = False
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()

    @property
    def host(self) -> str:
        return self.outside_host or service_host(self.name, self.namespace)

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.address, *self.more_addresses) if self.address else ()

    def port(self, number: int) -> ServicePort | None:
        return next((port for port in self.ports if port.number == number), None)


@dataclass(frozen=True, slots=True)
class WorkloadPort:
    """A declared container port. `host_port` is 0 when the container asks for none."""

    number: int
    name: str = ""
    host_ip: str = ""
    host_port: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """One running instance.

    `name` is the instance's (pod's), `owner` the workload's that it belongs to (the Deployment's). `app_ports` says
    where the app listens when that is not the container port itself; None when the platform captures traffic
    transparently.
    """

    name: str
    namespace: str
    owner: str
    address: str
    service_account: str
    labels: Mapping[str, str]
    ports: tuple[WorkloadPort, ...]
    sidecar: bool
    ready: bool
    locality: str = ""
    app_ports: Mapping[int, int] | None = None
    weight: int = 1

    @property
    def key(self) -> WorkloadKey:
        return WorkloadKey(self.namespace, self.name)

    def target(self, port: ServicePort) -> int | None:
        """The container port a service port leads to; None when it is named and this workload has no such name."""
        if isinstance(port.target, int):
            return port.target
        return next((own.number for own in self.ports if own.name == port.target), None)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A ready workload's port, reached through a port of a service."""

    service_port: int
    port: int
    workload: Workload


def by_age(service: Service) -> tuple[datetime, str, str]:
    """Sort key: the oldest service first, as Istio resolves conflicts; equal ages by name."""
    return service.created or datetime.max.replace(tzinfo=UTC), service.name, service.namespace


def service_host(name: str, namespace: str) -> str:
    """`reviews` in `default` -> `reviews.default.svc.cluster.local`."""
    return f"{name}.{namespace}.svc.{CLUSTER_DOMAIN}"


def resolve_host(host: str, namespace: str) -> str:
    """Istio's short-name rule: a name without dots is a service of the resource's own namespace; others stand."""
    return host if "." in host or host == "*" else service_host(host, namespace)
