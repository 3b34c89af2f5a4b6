"""What a cluster is told: its configuration and its endpoints, compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from mesh.proxy.balancing.arrangement import LoadBalancing, Rules
from mesh.proxy.balancing.member import Locality
from mesh.proxy.breaker import Thresholds
from mesh.proxy.health.checker import HealthCheckConfig
from mesh.proxy.outlier import OutlierConfig
from mesh.proxy.transport_socket import ClientTls
from mesh.proxy.upstream_config import UpstreamConfig

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


@dataclass(frozen=True, slots=True)
class Assignment:
    """A compiled ClusterLoadAssignment."""

    endpoints: tuple[Endpoint, ...] = ()
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What is compiled from `envoy.config.cluster.v3.Cluster`. Times in seconds; 0 means no limit."""

    name: str
    connect_timeout: float = 5.0
    http: UpstreamConfig = field(default_factory=UpstreamConfig)
    buffer_limit: int = 1024 * 1024
    balancing: LoadBalancing = field(default_factory=LoadBalancing)
    drains_on_change: bool = False  # close_connections_on_host_set_change
    thresholds: Thresholds = field(default_factory=Thresholds)
    high_thresholds: Thresholds = field(default_factory=Thresholds)
    outlier: OutlierConfig | None = None
    health_check: HealthCheckConfig | None = None
    ignores_new_hosts: bool = False  # ignore_new_hosts_until_first_hc
    removes_healthy_hosts: bool = False  # ignore_health_on_host_removal
    socket_options: tuple[tuple[int, int, int], ...] = ()  # level, name, value of upstream sockets
    tls: ClientTls | None = None
    tls_matches: tuple[tuple[Pairs, ClientTls | None], ...] = ()
    services: tuple[tuple[str, str, str], ...] = ()  # (host, name, namespace) of metadata istio.services
    eds_name: str = ""  # where its endpoints come from; empty if they are its own
    assignment: Assignment = field(
        default_factory=Assignment
    )  # for STRICT_DNS the `ip` of its endpoints holds the name
    is_dns: bool = False
    dns_refresh: float = 5.0

    def tls_of(self, endpoint: Endpoint) -> ClientTls | None:
        """The transport for an endpoint (`transport_socket_matches`): the first that its metadata matches, else the
        first that its locality's does, else `tls`.
        """
        for metadata in (endpoint.match_metadata, endpoint.locality_match_metadata):
            mine = set(metadata)
            for wanted, tls in self.tls_matches:
                if mine.issuperset(wanted):
                    return tls
        return self.tls
