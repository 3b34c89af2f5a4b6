"""The endpoints of a cluster, compiled from a ClusterLoadAssignment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from mesh.proxy.upstream.balancing.arrangement import Rules
from mesh.proxy.upstream.balancing.member import Locality

Pairs = tuple[tuple[str, str], ...]


class EdsHealth(IntEnum):
    """`envoy.config.core.v3.HealthStatus`: what the control plane says of an endpoint."""

    UNKNOWN = 0
    HEALTHY = 1
    UNHEALTHY = 2
    DRAINING = 3
    TIMEOUT = 4
    DEGRADED = 5


@dataclass(frozen=True, slots=True)
class EndpointCheck:
    """`HealthCheckConfig` of an endpoint: where and as whom it is checked instead; empty or 0 where it does not say."""

    ip: str = ""
    port: int = 0
    hostname: str = ""
    is_disabled: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a cluster, as configured. `workload` is Istio's endpoint metadata, empty if there is none.

    `locality_weight` is its locality's, 0 if that has none; `hash_name` places it in rings in its address's stead.
    """

    ip: str
    port: int
    weight: int = 1
    status: EdsHealth = EdsHealth.UNKNOWN
    workload: str = ""
    hostname: str = ""
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)
    match_metadata: Pairs = ()
    locality_match_metadata: Pairs = ()
    hash_name: str = ""
    is_canary: bool = False
    locality: Locality = ("", "", "")
    locality_weight: int = 0
    priority: int = 0
    check: EndpointCheck | None = None
    other_ips: tuple[str, ...] = ()  # tried in turn where a connection to `ip` cannot be made


@dataclass(frozen=True, slots=True)
class Assignment:
    """A compiled ClusterLoadAssignment."""

    endpoints: tuple[Endpoint, ...] = ()
    rules: Rules = field(default_factory=Rules)
