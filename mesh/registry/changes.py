"""The seam between the mesh and whatever knows its services: a stream of changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from mesh.registry.types import Endpoint, Service, Workload, WorkloadKey


@dataclass(frozen=True, slots=True)
class RegistryChange:
    """What changed, by key; None means gone.

    `accounts` are the service accounts of all workloads that a service selects, ready or not, sorted; `selecting` the
    services that select a workload, oldest first. A change without `services` and `accounts` concerns nobody but the
    clients' endpoint lists and the changed workloads themselves.
    """

    services: Mapping[str, Service | None] = field(default_factory=dict)
    workloads: Mapping[WorkloadKey, Workload | None] = field(default_factory=dict)
    endpoints: Mapping[str, tuple[Endpoint, ...] | None] = field(default_factory=dict)
    accounts: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    selecting: Mapping[WorkloadKey, tuple[Service, ...] | None] = field(default_factory=dict)


Listener: TypeAlias = Callable[[RegistryChange], None]


class Registry(Protocol):
    """An adapter for one platform: Kubernetes objects here; Consul or Eureka fit the same seam."""

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with each change from now on, in order."""
