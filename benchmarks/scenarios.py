"""What is measured: a table of scenarios, each a set of bootstrap files that both engines start from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADMIN_PORT, ENTRY_PORT, HOP_PORT, UPSTREAM_PORT = 15000, 8080, 8443, 9080
TYPES = "type.googleapis.com/envoy.extensions."
SERVER_IDENTITY = "spiffe://cluster.local/ns/default/sa/server"
CLIENT_IDENTITY = "spiffe://cluster.local/ns/default/sa/client"
Json = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """Where things are in a run: a loopback block of our own (three bytes) and the folder of the certificates."""

    block: str
    certificates: Path


@dataclass(frozen=True)
class Proxy:
    """One proxy process of a scenario: its bootstrap and its admin address."""

    bootstrap: Json
    admin: str


@dataclass(frozen=True)
class Scenario:
    """A path from the load generator to the upstream. The load goes to `<block>.1:8080`."""

    name: str
    about: str
    proxies: Callable[[Layout], list[Proxy]]


def plain(layout: Layout) -> list[Proxy]:
    """One proxy, one route by prefix, one cluster."""
    address = f"{layout.block}.1"
    upstream = cluster("upstream", f"{layout.block}.9", UPSTREAM_PORT)
    return [proxy(address, listener(address, ENTRY_PORT, "upstream"), upstream)]


def mtls(layout: Layout) -> list[Proxy]:
    """Two sidecars, mutual TLS between them, as between two pods in STRICT mode."""
    near, far = f"{layout.block}.1", f"{layout.block}.2"
    to_far = cluster("server", far, HOP_PORT) | {"transport_socket": client_tls(layout.certificates)}
    entry = listener(far, HOP_PORT, "upstream")
    entry["filter_chains"][0]["transport_socket"] = server_tls(layout.certificates)
    upstream = cluster("upstream", f"{layout.block}.9", UPSTREAM_PORT)
    return [proxy(near, listener(near, ENTRY_PORT, "server"), to_far), proxy(far, entry, upstream)]


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("plain", "one proxy, plaintext on both sides", plain),
        Scenario("mtls", "client-side proxy, mutual TLS, server-side proxy", mtls),
    )
}


def proxy(address: str, entry: Json, upstream: Json) -> Proxy:
    """A bootstrap with one listener and one cluster."""
    admin = {"address": socket_address(address, ADMIN_PORT)}
    node = {"id": "benchmark", "cluster": "benchmark"}
    resources = {"listeners": [entry], "clusters": [upstream]}
    return Proxy({"node": node, "admin": admin, "static_resources": resources}, f"{address}:{ADMIN_PORT}")


def listener(address: str, port: int, cluster_name: str) -> Json:
    """An HTTP listener that routes everything to one cluster, with the router as its only filter."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster_name}}
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": TYPES + "filters.http.router.v3.Router"}}
    manager = {
        "@type": TYPES + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "benchmark",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [router],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {"name": "entry", "address": socket_address(address, port), "filter_chains": [{"filters": filters}]}


def cluster(name: str, address: str, port: int) -> Json:
    """A static cluster of one endpoint, with limits that a benchmark does not reach."""
    endpoint = {"endpoint": {"address": socket_address(address, port)}}
    limits = {"max_connections": 10000, "max_pending_requests": 10000, "max_requests": 10000}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def client_tls(certificates: Path) -> Json:
    """The client's side, which wants exactly the server's identity."""
    common = common_tls(certificates, "client", {"exact": SERVER_IDENTITY})
    context = {"@type": TYPES + "transport_sockets.tls.v3.UpstreamTlsContext", "sni": "server.test", **common}
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def server_tls(certificates: Path) -> Json:
    """The server's side, which wants a certificate of the trust domain."""
    common = common_tls(certificates, "server", {"prefix": "spiffe://cluster.local/"})
    context = {"@type": TYPES + "transport_sockets.tls.v3.DownstreamTlsContext", "require_client_certificate": True}
    return {"name": "envoy.transport_sockets.tls", "typed_config": {**context, **common}}


def common_tls(certificates: Path, name: str, san: Json) -> Json:
    """Own certificate, trust, and the peer's identity."""
    chain, key, root = (str(certificates / file) for file in (f"{name}.pem", f"{name}.key", "root.pem"))
    validation = {
        "trusted_ca": {"filename": root},
        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": san}],
    }
    pair = {"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}
    return {"common_tls_context": {"tls_certificates": [pair], "validation_context": validation}}


def socket_address(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}
