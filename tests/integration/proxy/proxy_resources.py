"""Small Envoy resources for tests."""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf import json_format

from mesh.proxy import message_types

_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
message_types.load(_HCM)
message_types.load(_ROUTER)

ADS = {"ads": {}, "resource_api_version": "V3"}


def eds_cluster(name: str, fetch_timeout: str = "15s") -> Cluster:
    eds = {"eds_config": {**ADS, "initial_fetch_timeout": fetch_timeout}}
    return json_format.ParseDict({"name": name, "type": "EDS", "eds_cluster_config": eds}, Cluster())


def endpoints(name: str, *ports: int) -> ClusterLoadAssignment:
    hosts = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}} for port in ports
    ]
    return json_format.ParseDict(
        {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]}, ClusterLoadAssignment()
    )


def rds_listener(
    name: str, port: int, table: str, fetch_timeout: str = "15s", tls: dict[str, Any] | None = None
) -> Listener:
    manager = {
        "@type": _HCM,
        "stat_prefix": name,
        "rds": {"route_config_name": table, "config_source": {**ADS, "initial_fetch_timeout": fetch_timeout}},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
    }
    chain: dict[str, Any] = {"filters": [{"name": "http", "typed_config": manager}]}
    if tls is not None:
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return json_format.ParseDict({"name": name, "address": address, "filter_chains": [chain]}, Listener())


def says(table: str, text: str) -> RouteConfiguration:
    """Routes that answer everything with `text`."""
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": text}}}
    host = {"name": "all", "domains": ["*"], "routes": [route]}
    return json_format.ParseDict({"name": table, "virtual_hosts": [host]}, RouteConfiguration())
