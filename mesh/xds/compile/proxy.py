"""The proxy that resources are compiled for, as the control plane knows it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mesh.registry.types import Workload, WorkloadKey
from mesh.snapshot.snapshot import MeshSnapshot
from mesh.xds.compile.locality import Caller


class Role(StrEnum):
    """First part of an Istio node id."""

    SIDECAR = "sidecar"
    ROUTER = "router"


class Engine(StrEnum):
    """What runs the resources: our sidecar, an Envoy whose agent counts for it, an Envoy without one of our agents, or
    the client inside an app.
    """

    PYTHON = "python"
    ENVOY = "envoy"
    LONE_ENVOY = "lone-envoy"
    GRPC = "grpc"


class Interception(StrEnum):
    """Istio's `INTERCEPTION_MODE`: the app is told of its sidecar, or the kernel diverts to it."""

    NONE = "NONE"
    REDIRECT = "REDIRECT"


@dataclass(frozen=True, slots=True)
class Proxy:
    """Identity of a proxy, for as long as it is connected."""

    key: WorkloadKey
    role: Role
    engine: Engine = Engine.PYTHON
    interception: Interception = Interception.NONE

    @property
    def captures(self) -> bool:
        """Whether connections are handed to it with the destination that the app meant."""
        return self.role is Role.SIDECAR and self.interception is Interception.REDIRECT


@dataclass(frozen=True, slots=True)
class Sight:
    """All that outbound resources may depend on of their proxy; proxies of one sight share them.

    `labels` are only those that some VirtualService's `sourceLabels` asks about.
    """

    namespace: str
    role: Role
    labels: frozenset[tuple[str, str]]


def sight_of(proxy: Proxy, workload: Workload, snapshot: MeshSnapshot) -> Sight:
    """The sight of a proxy in this snapshot."""
    return Sight(workload.namespace, proxy.role, _asked(workload, snapshot.virtual_services.source_label_keys))


def caller_of(workload: Workload, snapshot: MeshSnapshot) -> Caller:
    """Where a client is, as far as it makes a difference for anybody's endpoints."""
    return Caller(workload.locality, _asked(workload, snapshot.destination_rules.label_keys))


def _asked(workload: Workload, keys: frozenset[str]) -> frozenset[tuple[str, str]]:
    return frozenset((key, value) for key, value in workload.labels.items() if key in keys)
