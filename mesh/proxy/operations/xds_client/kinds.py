"""The kinds of resources that a control plane may send, and their type URLs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from mesh.proxy.operations.references import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Kind

MESSAGES: Mapping[Kind, Any] = {
    CLUSTER: Cluster,
    ENDPOINT: ClusterLoadAssignment,
    LISTENER: Listener,
    ROUTE: RouteConfiguration,
    SECRET: Secret,
}
TYPE_URLS: Mapping[Kind, str] = {
    kind: f"type.googleapis.com/{message.DESCRIPTOR.full_name}" for kind, message in MESSAGES.items()
}
KINDS: Mapping[str, Kind] = {type_url: kind for kind, type_url in TYPE_URLS.items()}
WILDCARDS = frozenset({CLUSTER, LISTENER})
