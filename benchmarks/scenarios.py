"""What is measured: a table of scenarios, each a set of bootstrap files that both engines start from, and its load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.load import Load
from benchmarks.upstream import Port

ADMIN_PORT, ENTRY_PORT, HOP_PORT, ADS_PORT = 15000, 8080, 8443, 15010
TYPES = "type.googleapis.com/envoy.extensions."
SERVER_IDENTITY = "spiffe://cluster.local/ns/default/sa/server"
CLIENT_IDENTITY = "spiffe://cluster.local/ns/default/sa/client"
ROUTES = CLUSTERS = 1000
Json = dict[str, Any]

ISTIO_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" '
    '"%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
FAULT: Json = {
    "name": "envoy.filters.http.fault",
    "typed_config": {
        "@type": TYPES + "filters.http.fault.v3.HTTPFault",
        "abort": {"http_status": 503, "percentage": {"numerator": 0}},
        "delay": {"fixed_delay": "5s", "percentage": {"numerator": 0}},
    },
}
TYPED_STRUCT = "type.googleapis.com/udpa.type.v1.TypedStruct"
METADATA_EXCHANGE: Json = {
    "name": "istio.metadata_exchange",
    "typed_config": {"@type": TYPED_STRUCT, "type_url": "type.googleapis.com/io.istio.http.peer_metadata.Config"},
    "is_optional": True,
}
STATS: Json = {
    "name": "istio.stats",
    "typed_config": {"@type": TYPED_STRUCT, "type_url": "type.googleapis.com/stats.PluginConfig"},
    "is_optional": True,
}
HTTP2: Json = {
    "typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": TYPES + "upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
}


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
    """A path from the load generator to the upstream. The load goes to `<block>.1:8080`.

    `bar` is the ratio of our rate to Envoy's that we hold ourselves to.
    """

    name: str
    about: str
    bar: float
    proxies: Callable[[Layout], list[Proxy]]
    load: Load = field(default_factory=Load)
    discovery: bool = False  # whether clusters come from `benchmarks.discovery`


def plain(layout: Layout) -> list[Proxy]:
    """One proxy, one route by prefix, one cluster."""
    return [proxy(near(layout), listener(near(layout), ENTRY_PORT, [to("upstream")]), [upstream(layout, Port.SMALL)])]


def mtls(layout: Layout) -> list[Proxy]:
    """Two sidecars, mutual TLS between them, as between two pods in STRICT mode."""
    return hops(layout, [to("server")], [to("upstream")], [upstream(layout, Port.SMALL)])


def mesh(layout: Layout) -> list[Proxy]:
    """What Istio's sidecars are told in a canary under rehearsal: nine in ten to v1, each destination with headers of
    its own, a fault that concerns nobody, the access log in Istio's words, a trace of one request in a hundred.
    """
    entry = listener(near(layout), ENTRY_PORT, [canary()], filters=[FAULT], log=True)
    manager(entry)["tracing"] = {"random_sampling": {"value": 1}, "provider": zipkin()}
    clusters = [upstream(layout, Port.SMALL, name) for name in ("v1", "v2", "zipkin")]
    return [proxy(near(layout), entry, clusters)]


def istio(layout: Layout) -> list[Proxy]:
    """`mesh` with Istio's own metrics, which our sidecar counts and a plain Envoy skips, between two sidecars."""
    proxies = hops(layout, [to("server")], [to("upstream")], [upstream(layout, Port.SMALL)])
    for each in proxies:
        http = manager(each.bootstrap["static_resources"]["listeners"][0])
        http["http_filters"][:0] = [METADATA_EXCHANGE, FAULT, STATS]
        http["access_log"] = [access_log()]
    return proxies


def body(port: Port) -> Callable[[Layout], list[Proxy]]:
    """`plain`, with an upstream that answers with more."""

    def proxies(layout: Layout) -> list[Proxy]:
        entry = listener(near(layout), ENTRY_PORT, [to("upstream")])
        return [proxy(near(layout), entry, [upstream(layout, port)])]

    return proxies


def grpc(layout: Layout) -> list[Proxy]:
    """HTTP/2 with prior knowledge on both sides, a unary call a request."""
    entry = listener(near(layout), ENTRY_PORT, [to("upstream")])
    manager(entry)["codec_type"] = "HTTP2"
    return [proxy(near(layout), entry, [upstream(layout, Port.GRPC) | HTTP2])]


def routes(layout: Layout) -> list[Proxy]:
    """A thousand routes by prefix in one virtual host; requests go to all of them evenly."""
    table = [to("upstream", path=f"/service-{number}/") for number in range(ROUTES)]
    return [proxy(near(layout), listener(near(layout), ENTRY_PORT, table), [upstream(layout, Port.SMALL)])]


def swap(layout: Layout) -> list[Proxy]:
    """`plain`, with a thousand clusters from an ADS server that changes all of them once a second."""
    entry = listener(near(layout), ENTRY_PORT, [to("upstream")])
    manager(entry)["route_config"]["validate_clusters"] = False  # they come later
    ads = cluster("ads", f"{layout.block}.8", ADS_PORT) | HTTP2
    del ads["circuit_breakers"]  # one stream
    only = proxy(near(layout), entry, [ads])
    services = [{"envoy_grpc": {"cluster_name": "ads"}}]
    only.bootstrap["dynamic_resources"] = {
        "ads_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": services},
        "cds_config": {"ads": {}, "resource_api_version": "V3"},
    }
    return [only]


PACED = "paced"
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("plain", "one proxy, plaintext on both sides", 1.5, plain),
        Scenario("mtls", "client-side proxy, mutual TLS, server-side proxy", 1.25, mtls),
        Scenario("mesh", "weighted split, fault filter, header edits, metrics, access log, tracing", 1.25, mesh),
        Scenario("istio", "mtls with Istio's metrics (ours only) and access log", 1.0, istio),
        Scenario("body-64k", "answers of 64 KiB", 0.9, body(Port.LARGE)),
        Scenario("body-1m", "answers of 1 MiB", 0.9, body(Port.HUGE)),
        Scenario("upload-1m", "requests of 1 MiB", 0.9, body(Port.SINK), Load("upload.lua")),
        Scenario("grpc", "gRPC unary over HTTP/2", 0.6, grpc, Load(grpc=True)),
        Scenario("routes", f"{ROUTES:,} routes in the table", 1.25, routes, Load("routes.lua")),
        Scenario("swap", f"{CLUSTERS:,} clusters replaced once a second", 0, swap, discovery=True),
        Scenario(PACED, "p99 at 70 % of the rate that is Envoy's maximum in plain", 1.0, plain),
    )
}


def near(layout: Layout) -> str:
    """The address of the proxy that the load goes to."""
    return f"{layout.block}.1"


def hops(layout: Layout, there: list[Json], here: list[Json], clusters: list[Json]) -> list[Proxy]:
    """Two proxies with mutual TLS between them: routes of the near one, routes and clusters of the far one."""
    far = f"{layout.block}.2"
    to_far = cluster("server", far, HOP_PORT) | {"transport_socket": client_tls(layout.certificates)}
    entry = listener(far, HOP_PORT, here)
    entry["filter_chains"][0]["transport_socket"] = server_tls(layout.certificates)
    first = proxy(near(layout), listener(near(layout), ENTRY_PORT, there), [to_far])
    return [first, proxy(far, entry, clusters)]


def proxy(address: str, entry: Json, clusters: list[Json]) -> Proxy:
    """A bootstrap with one listener."""
    admin = {"address": socket_address(address, ADMIN_PORT)}
    node = {"id": "benchmark", "cluster": "benchmark"}
    resources = {"listeners": [entry], "clusters": clusters}
    return Proxy({"node": node, "admin": admin, "static_resources": resources}, f"{address}:{ADMIN_PORT}")


def listener(address: str, port: int, table: list[Json], filters: Sequence[Json] = (), *, log: bool = False) -> Json:
    """An HTTP listener with these routes, and these filters before the router."""
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": TYPES + "filters.http.router.v3.Router"}}
    http: Json = {
        "@type": TYPES + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "benchmark",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": table}]},
        "http_filters": [*filters, router],
    }
    if log:
        http["access_log"] = [access_log()]
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": http}]}
    return {"name": "entry", "address": socket_address(address, port), "filter_chains": [chain]}


def manager(entry: Json) -> Json:
    """The HttpConnectionManager of a listener."""
    found: Json = entry["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def to(cluster_name: str, path: str = "/") -> Json:
    """A route by prefix to one cluster."""
    return {"match": {"prefix": path}, "route": {"cluster": cluster_name}}


def canary() -> Json:
    """A split by weight, with header edits of the route and of each destination."""
    clusters = [
        {"name": name, "weight": weight, "response_headers_to_add": [header("x-version", name)]}
        for name, weight in (("v1", 90), ("v2", 10))
    ]
    return {
        "match": {"prefix": "/"},
        "route": {"weighted_clusters": {"clusters": clusters}, "timeout": "10s"},
        "request_headers_to_add": [header("x-rehearsal", "canary"), header("x-client", "%DOWNSTREAM_REMOTE_ADDRESS%")],
        "request_headers_to_remove": ["x-debug"],
        "response_headers_to_remove": ["x-powered-by"],
    }


def header(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def access_log() -> Json:
    """Istio's default format, to nowhere: what is measured is the making of the line."""
    file = {
        "@type": TYPES + "access_loggers.file.v3.FileAccessLog",
        "path": "/dev/null",
        "log_format": {"text_format_source": {"inline_string": ISTIO_FORMAT}},
    }
    return {"name": "envoy.access_loggers.file", "typed_config": file}


def zipkin() -> Json:
    config = {
        "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
        "collector_cluster": "zipkin",
        "collector_endpoint": "/api/v2/spans",
        "collector_endpoint_version": "HTTP_JSON",
    }
    return {"name": "envoy.tracers.zipkin", "typed_config": config}


def upstream(layout: Layout, port: Port, name: str = "upstream") -> Json:
    """The cluster of one of the upstream's ports."""
    return cluster(name, f"{layout.block}.9", port)


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
