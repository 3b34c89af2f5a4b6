"""What a cluster is told: its configuration and its endpoints, compiled."""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh.proxy.tls.transport_socket import ClientTls
from mesh.proxy.upstream.balancing.arrangement import LoadBalancing
from mesh.proxy.upstream.breaker import Thresholds
from mesh.proxy.upstream.discovery.dns import DnsConfig
from mesh.proxy.upstream.discovery.original_dst import OriginalDstConfig
from mesh.proxy.upstream.endpoint import Assignment, Endpoint, Pairs
from mesh.proxy.upstream.health.checker import HealthCheckConfig
from mesh.proxy.upstream.http_options import UpstreamConfig
from mesh.proxy.upstream.outlier import OutlierConfig


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
    source: tuple[str, int] | None = None  # the address and port that connections are made from
    tls: ClientTls | None = None
    tls_matches: tuple[tuple[Pairs, ClientTls | None], ...] = ()
    services: tuple[tuple[str, str, str], ...] = ()  # (host, name, namespace) of metadata istio.services
    eds_name: str = ""  # where its endpoints come from; empty if they are its own
    assignment: Assignment = field(
        default_factory=Assignment
    )  # for STRICT_DNS the `ip` of its endpoints holds the name
    dns: DnsConfig | None = None
    original_dst: OriginalDstConfig | None = None

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
