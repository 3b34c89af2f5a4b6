"""Istio's names for what goes over the wire."""

from __future__ import annotations

from typing import Final

from mesh.registry.types import Workload

HTTP_PROXY: Final = "http_proxy"
"""The outbound HTTP proxy's listener and its route configuration."""
HTTP_PROXY_PORT: Final = 15080
BLACK_HOLE: Final = "BlackHoleCluster"
PASSTHROUGH: Final = "PassthroughCluster"
"""Leads to wherever the app meant to go."""
INBOUND_PASSTHROUGH: Final = "InboundPassthroughCluster"
VIRTUAL_OUTBOUND: Final = "virtualOutbound"
VIRTUAL_OUTBOUND_PORT: Final = 15001
VIRTUAL_INBOUND: Final = "virtualInbound"
VIRTUAL_INBOUND_PORT: Final = 15006
ANY_ADDRESS: Final = "0.0.0.0"  # noqa: S104 part of Istio's names; what binds to it is said where it binds
RESERVED_PORTS: Final = frozenset({15000, 15001, 15006, 15012, 15014, 15020, 15021, HTTP_PROXY_PORT, 15090})
CLUSTER_ID: Final = "Kubernetes"
_CANONICAL_NAME: Final = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_CANONICAL_REVISION: Final = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")


def outbound_cluster(port: int, subset: str, host: str) -> str:
    """`outbound|9080|v1|reviews.default.svc.cluster.local`."""
    return f"outbound|{port}|{subset}|{host}"


def outbound_sni(port: int, subset: str, host: str) -> str:
    """The cluster's name as a server name: `outbound_.9080_.v1_.reviews.default.svc.cluster.local`."""
    return f"outbound_.{port}_.{subset}_.{host}"


def inbound_cluster(port: int) -> str:
    return f"inbound|{port}||"


def listener(address: str, port: int) -> str:
    return f"{address}_{port}"


def gateway_routes(port: int) -> str:
    return f"http.{port}"


def peer(workload: Workload) -> str:
    """`<workload>;<namespace>;<canonical service>;<canonical revision>;<cluster>`, Istio's endpoint metadata."""
    canonical = _first_label(workload, _CANONICAL_NAME, workload.owner)
    revision = _first_label(workload, _CANONICAL_REVISION, "latest")
    return ";".join((workload.owner, workload.namespace, canonical, revision, CLUSTER_ID))


def _first_label(workload: Workload, keys: tuple[str, ...], default: str) -> str:
    return next((workload.labels[key] for key in keys if workload.labels.get(key)), default)
