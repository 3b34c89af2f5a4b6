"""The Envoy v3 bootstrap of a pod's proxy. Pure; both engines start from the same file."""

from typing import Any

from mesh.agent.settings import SECRETS, Settings

Json = dict[str, Any]

ADMIN_PORT = 15000
STATUS_PORT = 15020
READINESS_PORT = 15021
PROMETHEUS_PORT = 15090

PROXY_MARK = 1337
_SOL_SOCKET, _SO_MARK = 1, 36  # Linux's numbers: the bootstrap is read there, wherever it is written

_TYPE = "type.googleapis.com/"
_HTTP = _TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_HCM = _TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = _TYPE + "envoy.extensions.filters.http.router.v3.Router"
_TLS = _TYPE + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"

# A restarted control plane is back within a second; Envoy's own default waits for up to half a minute.
_RECONNECT = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "2s"}}

# Istio's limit on a compiled regular expression. Envoy's own of 100 refuses the routes with a modest `[a-z0-9]{1,63}`.
_REGEX_LIMIT = {"re2": {"max_program_size": {"error_level": 32768}}}

# Captured traffic is counted under names that hold addresses (`http.outbound_0.0.0.0_9080.`). Envoy ends a prefix
# at its first dot, so the rest would become part of every metric's name.
_CAPTURED_TAG = {
    "tag_name": "listener_address",
    "regex": r"^http\.(?:in|out)bound(_((?:\d{1,3}\.){3}\d{1,3}_\d{1,5})\.)",
}


def bootstrap(settings: Settings) -> Json:
    """`node`, `admin`, ADS over mutual TLS, and the listeners for readiness and metrics; Envoy's runtime for Envoy."""
    return {
        **_runtime(settings),
        **_own_connections(settings),
        "node": node(settings),
        "admin": {"address": _address(settings.admin_address, ADMIN_PORT)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC" if settings.delta_xds else "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc", "retry_policy": _RECONNECT}}],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {
            "clusters": [_xds_cluster(settings), *_local_clusters(settings)],
            "listeners": [
                _listener(settings, READINESS_PORT, "/healthz/ready", "agent", rewrite="/ready"),
                _listener(settings, PROMETHEUS_PORT, "/stats/prometheus", _metrics_cluster(settings)),
            ],
        },
    }


def _is_captured(settings: Settings) -> bool:
    return settings.metadata.get("INTERCEPTION_MODE") == "REDIRECT"


def _own_connections(settings: Settings) -> Json:
    """Where all that leaves the pod is led into the proxy, what the proxy itself sends bears a mark, by which the rules
    tell it apart; unless they do by its uid and groups."""
    if not _is_captured(settings) or settings.known_by != "mark":
        return {}
    mark = {"level": _SOL_SOCKET, "name": _SO_MARK, "int_value": PROXY_MARK, "state": "STATE_PREBIND"}
    return {"cluster_manager": {"upstream_bind_config": {"socket_options": [mark]}}}


def _runtime(settings: Settings) -> Json:
    """Our engine has no runtime layers, and no such limit. The admin's layer keeps `/runtime_modify` at work."""
    if settings.engine == "python":
        return {}
    captured = {"stats_config": {"stats_tags": [_CAPTURED_TAG]}} if _is_captured(settings) else {}
    layers = [{"name": "static", "static_layer": _REGEX_LIMIT}, {"name": "admin", "admin_layer": {}}]
    return {**captured, "layered_runtime": {"layers": layers}}


def sds(name: str) -> Json:
    """Where the proxy reads a secret: a file that is replaced by rename, seen through its folder (Envoy cannot watch a
    file that is replaced, only the folder)."""
    return {
        "name": name,
        "sds_config": {
            "path_config_source": {"path": f"{SECRETS}/{name}.json", "watched_directory": {"path": str(SECRETS)}},
            "resource_api_version": "V3",
        },
    }


def node(settings: Settings) -> Json:
    """Who the pod's proxy is, with Istio's metadata."""
    labels = settings.metadata.get("LABELS") or {}
    app = labels.get("app", settings.metadata.get("WORKLOAD_NAME", settings.pod))
    metadata = {
        **settings.metadata,
        "NAME": settings.pod,
        "NAMESPACE": settings.namespace,
        "SERVICE_ACCOUNT": settings.service_account,
        "INSTANCE_IPS": settings.address,
        "ENGINE": settings.engine,
    }
    return {"id": settings.node_id, "cluster": f"{app}.{settings.namespace}", "metadata": metadata}


def _xds_cluster(settings: Settings) -> Json:
    host, _, port = settings.discovery_address.rpartition(":")
    validation = {
        "default_validation_context": {
            "match_typed_subject_alt_names": [
                {"san_type": "DNS", "matcher": {"exact": "istiod.istio-system.svc"}},
            ]
        },
        "validation_context_sds_secret_config": sds("ROOTCA"),
    }
    tls = {
        "@type": _TLS,
        "sni": "istiod.istio-system.svc",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_certificate_sds_secret_configs": [sds("default")],
            "combined_validation_context": validation,
        },
    }
    return {
        **_static_cluster("xds-grpc", host, int(port)),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _HTTP,
                "explicit_http_config": {
                    # A control plane that vanished without a goodbye must be noticed, or the stream is silent for ever.
                    "http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "10s"}}
                },
            }
        },
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }


def _local_clusters(settings: Settings) -> list[Json]:
    admin = _static_cluster("agent", settings.admin_address, ADMIN_PORT)
    if settings.engine == "python":
        return [admin]
    return [admin, _static_cluster(_metrics_cluster(settings), settings.admin_address, STATUS_PORT)]


def _metrics_cluster(settings: Settings) -> str:
    """Our engine speaks `istio_*` itself; for Envoy the agent derives them and serves both."""
    return "agent" if settings.engine == "python" else "prometheus_stats"


def _static_cluster(name: str, host: str, port: int) -> Json:
    endpoint = {"endpoint": {"address": _address(host, port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _listener(settings: Settings, port: int, path: str, cluster: str, rewrite: str | None = None) -> Json:
    route = {"cluster": cluster} | ({"prefix_rewrite": rewrite} if rewrite else {})
    host = {"name": "backend", "domains": ["*"], "routes": [{"match": {"path": path}, "route": route}]}
    manager = {
        "@type": _HCM,
        "stat_prefix": "agent",
        "route_config": {"name": f"agent_{port}", "virtual_hosts": [host]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
    }
    manager_filter = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {
        "name": f"agent_{port}",
        "address": _address(settings.address, port),
        "filter_chains": [{"filters": [manager_filter]}],
    }


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}
