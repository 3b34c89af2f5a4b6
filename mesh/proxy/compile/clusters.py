"""Cluster and ClusterLoadAssignment to ClusterConfig and endpoints."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address
from google.protobuf.json_format import MessageToDict

from mesh.proxy.compile import breakers, discovery, endpoints, health_checks, load_balancing, outlier, protocols, tls
from mesh.proxy.compile.outlier import compile_outlier
from mesh.proxy.compile.values import seconds_or, socket_address, value_or
from mesh.proxy.fields import OPAQUE, Place, check
from mesh.proxy.upstream.cluster_config import ClusterConfig
from mesh.proxy.upstream.dialling import SocketOption

_C = "envoy.config.cluster.v3."
SUPPORTED = {
    _C + "Cluster": frozenset(
        ("name", "type", "eds_cluster_config", "connect_timeout", "per_connection_buffer_limit_bytes",
         "lb_policy", "load_assignment", "max_requests_per_connection", "circuit_breakers",
         "common_http_protocol_options", "http_protocol_options", "http2_protocol_options",
         "upstream_http_protocol_options",
         "typed_extension_protocol_options",
         "outlier_detection", "common_lb_config", "transport_socket", "transport_socket_matches", "metadata",
         "least_request_lb_config", "round_robin_lb_config", "ring_hash_lb_config", "maglev_lb_config",
         "load_balancing_policy", "health_checks", "ignore_health_on_host_removal", "dns_refresh_rate",
         "dns_lookup_family", "respect_dns_ttl", "dns_jitter", "dns_failure_refresh_rate", "original_dst_lb_config",
         "upstream_connection_options", "track_cluster_stats", "cleanup_interval",
         "upstream_bind_config")
    ),
    _C + "Cluster.EdsClusterConfig": frozenset(("eds_config", "service_name")),
    _C + "Cluster.TransportSocketMatch": frozenset(("name", "match", "transport_socket")),
    _C + "UpstreamConnectionOptions": frozenset(("tcp_keepalive",)),
    "envoy.config.core.v3.BindConfig": frozenset(("source_address",)),
    "envoy.config.core.v3.TcpKeepalive": frozenset(("keepalive_probes", "keepalive_time", "keepalive_interval")),
    _C + "TrackClusterStats": frozenset(),  # said with all off, it asks for nothing
    "envoy.config.core.v3.ConfigSource": OPAQUE,
    "envoy.config.core.v3.TransportSocket": frozenset(("name", "typed_config")),
    **breakers.SUPPORTED,
    **discovery.SUPPORTED,
    **endpoints.SUPPORTED,
    **health_checks.SUPPORTED,
    **load_balancing.SUPPORTED,
    **outlier.SUPPORTED,
    **protocols.SUPPORTED,
}  # fmt: skip
_KINDS = {
    Cluster.STATIC: "STATIC",
    Cluster.STRICT_DNS: "STRICT_DNS",
    Cluster.LOGICAL_DNS: "LOGICAL_DNS",
    Cluster.EDS: "EDS",
    Cluster.ORIGINAL_DST: "ORIGINAL_DST",
}


@dataclass(frozen=True, slots=True)
class CompiledCluster:
    config: ClusterConfig
    contexts: tuple[tls.ContextPlan, ...]


def compile_cluster(cluster: Any, place: Place, options: tuple[SocketOption, ...] = ()) -> CompiledCluster:
    """`options` are of all clusters' sockets. Raises Refused."""
    check(cluster, SUPPORTED, place)
    if cluster.WhichOneof("cluster_discovery_type") == "cluster_type" or cluster.type not in _KINDS:
        raise place.refuse("not supported by this sidecar", "type")
    kind = _KINDS[cluster.type]
    is_dns = kind in ("STRICT_DNS", "LOGICAL_DNS")
    http = protocols.upstream_config(cluster, place)
    own, matches, contexts = _transports(cluster, protocols.offered(http.protocols), place)
    assignment = endpoints.compile_endpoints(cluster.load_assignment, place.at("load_assignment"), dns=is_dns)
    return CompiledCluster(
        ClusterConfig(
            name=cluster.name,
            connect_timeout=seconds_or(cluster, "connect_timeout", 5.0),
            http=http,
            buffer_limit=value_or(cluster, "per_connection_buffer_limit_bytes", 1024 * 1024),
            balancing=load_balancing.compile_load_balancing(cluster, place),
            drains_on_change=cluster.common_lb_config.close_connections_on_host_set_change,
            thresholds=breakers.compile_thresholds(cluster, 0, place),
            high_thresholds=breakers.compile_thresholds(cluster, 1, place),
            outlier=compile_outlier(cluster),
            health_check=health_checks.compile_health_check(cluster, http.protocols, place),
            ignores_new_hosts=cluster.common_lb_config.ignore_new_hosts_until_first_hc,
            removes_healthy_hosts=cluster.ignore_health_on_host_removal,
            socket_options=_socket_options(cluster, options),
            source=_source(cluster, place),
            tls=own,
            tls_matches=matches,
            services=_services(cluster),
            eds_name=(cluster.eds_cluster_config.service_name or cluster.name) if kind == "EDS" else "",
            assignment=assignment,
            dns=discovery.compile_dns(cluster, place) if is_dns else None,
            original_dst=discovery.compile_original_dst(cluster, place) if kind == "ORIGINAL_DST" else None,
        ),
        contexts,
    )


def _transports(
    cluster: Any, offered: tuple[str, ...], place: Place
) -> tuple[Any, tuple[Any, ...], tuple[tls.ContextPlan, ...]]:
    own, plan = tls.client_tls(cluster.transport_socket, place.at("transport_socket"), offered)
    plans = [plan]
    matches = []
    for index, match in enumerate(cluster.transport_socket_matches):
        inside = place.at(f"transport_socket_matches[{index}]")
        matched, plan = tls.client_tls(match.transport_socket, inside.at("transport_socket"), offered)
        plans.append(plan)
        wanted = MessageToDict(match.match)
        matches.append((tuple(sorted((key, str(value)) for key, value in wanted.items())), matched))
    return own, tuple(matches), tuple(plan for plan in plans if plan is not None)


def _socket_options(cluster: Any, of_all: tuple[SocketOption, ...]) -> tuple[SocketOption, ...]:
    """A cluster's own `upstream_bind_config` stands in place of that of all clusters, as with Envoy."""
    shared = () if cluster.HasField("upstream_bind_config") else of_all
    options = cluster.upstream_connection_options
    if not options.HasField("tcp_keepalive"):
        return shared
    found = [*shared, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for field, option in (
        ("keepalive_probes", socket.TCP_KEEPCNT),
        ("keepalive_time", socket.TCP_KEEPIDLE),
        ("keepalive_interval", socket.TCP_KEEPINTVL),
    ):
        if options.tcp_keepalive.HasField(field):
            found.append((socket.IPPROTO_TCP, option, getattr(options.tcp_keepalive, field).value))
    return tuple(found)


def _source(cluster: Any, place: Place) -> tuple[str, int] | None:
    source = cluster.upstream_bind_config.source_address
    if not cluster.upstream_bind_config.HasField("source_address"):
        return None
    inside = place.at("upstream_bind_config.source_address")
    ip, port = socket_address(Address(socket_address=source), inside)
    try:
        ipaddress.ip_address(ip)
    except ValueError as error:
        raise inside.refuse(f"malformed IP address: {ip}", "address") from error
    return ip, port


def _services(cluster: Any) -> tuple[tuple[str, str, str], ...]:
    if "istio" not in cluster.metadata.filter_metadata:
        return ()
    services = MessageToDict(cluster.metadata.filter_metadata["istio"]).get("services", [])
    return tuple(
        (str(each.get("host", "")), str(each.get("name", "")), str(each.get("namespace", "")))
        for each in services
        if isinstance(each, Mapping)
    )
