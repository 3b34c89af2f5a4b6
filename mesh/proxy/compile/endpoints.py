"""ClusterLoadAssignment to the endpoints of a cluster."""

from __future__ import annotations

import ipaddress
from typing import Any

from google.protobuf.json_format import MessageToDict

from mesh.proxy.compile.values import ADDRESS, socket_address, value_or
from mesh.proxy.fields import OPAQUE, Place, check
from mesh.proxy.upstream.balancing.arrangement import Rules
from mesh.proxy.upstream.endpoint import Assignment, EdsHealth, Endpoint, EndpointCheck

_E = "envoy.config.endpoint.v3."
SUPPORTED = {
    _E + "ClusterLoadAssignment": frozenset(("cluster_name", "endpoints", "policy")),
    _E + "ClusterLoadAssignment.Policy": frozenset(("overprovisioning_factor", "weighted_priority_health")),
    _E + "LocalityLbEndpoints": frozenset(
        ("locality", "lb_endpoints", "load_balancing_weight", "metadata", "priority")
    ),
    "envoy.config.core.v3.Locality": OPAQUE,
    _E + "LbEndpoint": frozenset(("endpoint", "health_status", "metadata", "load_balancing_weight")),
    _E + "Endpoint": frozenset(("address", "hostname", "health_check_config")),
    _E + "Endpoint.HealthCheckConfig": frozenset(("port_value", "hostname", "address", "disable_active_health_check")),
    "envoy.config.core.v3.Metadata": OPAQUE,
    **ADDRESS,
}  # fmt: skip
_MATCH_KEY = "envoy.transport_socket_match"
_MAX_PRIORITY = 128


def compile_endpoints(assignment: Any, place: Place, *, dns: bool = False) -> Assignment:
    """The endpoints of a ClusterLoadAssignment. Raises Refused. With `dns` an address may be a host name."""
    check(assignment, SUPPORTED, place)
    found = []
    for i, locality in enumerate(assignment.endpoints):
        inside = place.at(f"endpoints[{i}]")
        if locality.priority > _MAX_PRIORITY:
            raise inside.refuse(f"at most {_MAX_PRIORITY}", "priority")
        for j, each in enumerate(locality.lb_endpoints):
            found.append(_endpoint(each, locality, inside.at(f"lb_endpoints[{j}]"), dns))
    policy = assignment.policy
    return Assignment(
        tuple(found), Rules(value_or(policy, "overprovisioning_factor", 140), policy.weighted_priority_health)
    )


def _endpoint(each: Any, around: Any, place: Place, dns: bool) -> Endpoint:
    ip, port = socket_address(each.endpoint.address, place.at("endpoint.address"))
    if not dns:
        try:
            ipaddress.ip_address(ip)
        except ValueError as error:
            raise place.refuse(f"malformed IP address: {ip}", "endpoint.address.socket_address.address") from error
    metadata = {key: MessageToDict(value) for key, value in each.metadata.filter_metadata.items()}
    around_metadata = {key: MessageToDict(value) for key, value in around.metadata.filter_metadata.items()}
    return Endpoint(
        ip=ip,
        port=port,
        weight=value_or(each, "load_balancing_weight", 1),
        status=EdsHealth(each.health_status),
        workload=str(metadata.get("istio", {}).get("workload", "")),
        hostname=each.endpoint.hostname,
        metadata=metadata,
        match_metadata=_to_match(metadata),
        locality_match_metadata=_to_match(around_metadata),
        hash_name=_string(metadata.get("envoy.lb", {}).get("hash_key")),
        is_canary=metadata.get("envoy.lb", {}).get("canary") is True,
        locality=(around.locality.region, around.locality.zone, around.locality.sub_zone),
        locality_weight=value_or(around, "load_balancing_weight", 0),
        priority=around.priority,
        check=_check(each.endpoint, place.at("endpoint.health_check_config")),
    )


def _check(endpoint: Any, place: Place) -> EndpointCheck | None:
    if not endpoint.HasField("health_check_config"):
        return None
    config = endpoint.health_check_config
    ip, port = "", config.port_value
    if config.HasField("address"):
        ip, port = socket_address(config.address, place.at("address"))
    return EndpointCheck(ip, port, config.hostname, config.disable_active_health_check)


def _to_match(metadata: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, str(value)) for key, value in metadata.get(_MATCH_KEY, {}).items()))


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
