"""What a Cluster says of finding its hosts itself: DNS and original destinations."""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster

from mesh.proxy.compile.values import seconds, seconds_or, value_or
from mesh.proxy.fields import Place
from mesh.proxy.upstream.discovery.dns import DnsConfig, Family
from mesh.proxy.upstream.discovery.original_dst import OriginalDstConfig

_C = "envoy.config.cluster.v3.Cluster"
SUPPORTED = {
    _C + ".RefreshRate": frozenset(("base_interval", "max_interval")),
    _C + ".OriginalDstLbConfig": frozenset(("use_http_header", "http_header_name", "upstream_port_override")),
}
# The system's resolver tells no TTL. Envoy's resolver on top of it (getaddrinfo) takes this one for every name.
_UNKNOWN_TTL_S = 60.0
_HEADER = "x-envoy-original-dst-host"


def compile_dns(cluster: Any, place: Place) -> DnsConfig:
    """The lookups of a STRICT_DNS or LOGICAL_DNS cluster. Raises Refused."""
    is_logical = cluster.type == Cluster.LOGICAL_DNS
    if is_logical:
        localities = cluster.load_assignment.endpoints
        if len(localities) != 1 or len(localities[0].lb_endpoints) != 1:
            raise place.refuse("LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint",
                               "load_assignment")  # fmt: skip
    refresh = _UNKNOWN_TTL_S if cluster.respect_dns_ttl else seconds_or(cluster, "dns_refresh_rate", 5.0)
    if refresh <= 0:
        raise place.refuse("must be greater than 0", "dns_refresh_rate")
    failure = cluster.dns_failure_refresh_rate
    base = longest = refresh
    if cluster.HasField("dns_failure_refresh_rate"):
        base = seconds(failure.base_interval)
        longest = seconds_or(failure, "max_interval", base * 10)
    return DnsConfig(is_logical, Family(cluster.dns_lookup_family), refresh, seconds(cluster.dns_jitter), base, longest)


def compile_original_dst(cluster: Any, place: Place) -> OriginalDstConfig:
    """How an ORIGINAL_DST cluster finds its destinations. Raises Refused."""
    if cluster.HasField("load_assignment"):
        raise place.refuse("ORIGINAL_DST clusters must have no load assignment configured", "load_assignment")
    if not cluster.HasField("load_balancing_policy") and cluster.lb_policy != Cluster.CLUSTER_PROVIDED:
        raise place.refuse("an ORIGINAL_DST cluster needs CLUSTER_PROVIDED", "lb_policy")
    config = cluster.original_dst_lb_config
    name = config.http_header_name or _HEADER
    return OriginalDstConfig(
        name.lower().encode() if config.use_http_header else None,
        value_or(config, "upstream_port_override", 0),
        seconds_or(cluster, "cleanup_interval", 5.0),
    )
