"""Network filters: the HTTP connection manager with Istio's filters in order, and the TCP proxy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog
from envoy.extensions.filters.http.cors.v3.cors_pb2 import Cors
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import BoolValue

from mesh.xds.compile.messages import over_ads, packed, typed_struct
from mesh.xds.compile.proxy import Engine

SOURCE: Final = "source"
DESTINATION: Final = "destination"
_SERVER_NAME: Final = "istio-envoy"
_STATS: Final = "istio.stats"
_STATS_TYPE: Final = "type.googleapis.com/stats.PluginConfig"
_ISTIO_FORMAT: Final = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" '
    '"%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
_TELEMETRY_PIPE: Final = "telemetry.pipe"
_TELEMETRY_FORMAT: Final = {
    "authority": "%REQ(:AUTHORITY)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "duration_ms": "%DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_workload": "%UPSTREAM_METADATA(istio:workload)%",
    "upstream_peer": "%UPSTREAM_PEER_URI_SAN%",
    "downstream_peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "downstream_tls": "%DOWNSTREAM_TLS_VERSION%",
    "grpc_status": "%GRPC_STATUS_NUMBER%",
    "server_name": "%REQUESTED_SERVER_NAME%",
}


def http_filter(
    stat_prefix: str,
    engine: Engine,
    reporter: str,
    routes: RouteConfiguration | str,
    guards: Sequence[HttpFilter] = (),
    *,
    at_gateway: bool = False,
) -> Filter:
    """The connection manager. `routes` are inline, or the name of a configuration that RDS brings.

    `guards` decide who gets through to the other filters. At a gateway nobody is believed who he is or comes from.
    """
    manager = HttpConnectionManager(
        stat_prefix=stat_prefix,
        server_name=_SERVER_NAME,
        use_remote_address=BoolValue(value=at_gateway),
        normalize_path=BoolValue(value=True),
        stream_idle_timeout=Duration(),
        http_filters=_http_filters(guards),
        upgrade_configs=[HttpConnectionManager.UpgradeConfig(upgrade_type="websocket")],
        access_log=access_logs(engine, reporter),
    )
    if at_gateway or reporter == DESTINATION:
        _tell_client(manager, at_gateway=at_gateway)
    if isinstance(routes, str):
        manager.rds.CopyFrom(Rds(route_config_name=routes, config_source=over_ads()))
    else:
        manager.route_config.CopyFrom(routes)
    return Filter(name="envoy.filters.network.http_connection_manager", typed_config=packed(manager))


def _tell_client(manager: HttpConnectionManager, *, at_gateway: bool) -> None:
    """Say by `x-forwarded-client-cert` who the client is: as Istio has it, a gateway says what it saw itself, a sidecar
    adds its own client to those before.
    """
    details = HttpConnectionManager
    manager.forward_client_cert_details = details.SANITIZE_SET if at_gateway else details.APPEND_FORWARD
    manager.set_current_client_cert_details.CopyFrom(
        details.SetCurrentClientCertDetails(subject=BoolValue(value=True), cert=at_gateway, dns=True, uri=True)
    )


def tcp_filters(
    stat_prefix: str,
    engine: Engine,
    reporter: str,
    clusters: Sequence[tuple[str, int]],
    hashes_source_ip: bool = False,
) -> list[Filter]:
    """The TCP proxy to one cluster, or to several by weight, and what counts its connections.

    A network filter that Envoy does not know cannot be optional, so Envoy gets none: its agent counts by the log.
    """
    proxy = TcpProxy(stat_prefix=stat_prefix, access_log=access_logs(engine, reporter, {"request_protocol": "tcp"}))
    if hashes_source_ip:
        proxy.hash_policy.add().source_ip.SetInParent()
    if len(clusters) == 1:
        proxy.cluster = clusters[0][0]
    for name, weight in clusters if len(clusters) > 1 else ():
        proxy.weighted_clusters.clusters.add(name=name, weight=weight)
    passing = Filter(name="envoy.filters.network.tcp_proxy", typed_config=packed(proxy))
    if engine is not Engine.PYTHON:
        return [passing]
    return [Filter(name=_STATS, typed_config=typed_struct(_STATS_TYPE)), passing]


def access_logs(engine: Engine, reporter: str, telemetry: Mapping[str, str] | None = None) -> list[AccessLog]:
    """Istio's default format to stdout; a real Envoy also feeds the agent, who derives `istio_*` metrics from it.

    `telemetry` are further fields for the agent.
    """
    text = SubstitutionFormatString(text_format_source=DataSource(inline_string=_ISTIO_FORMAT))
    logs = [_file_log("/dev/stdout", text)]
    if engine is Engine.ENVOY:
        fields = Struct()
        fields.update({"reporter": reporter, **_TELEMETRY_FORMAT, **(telemetry or {})})
        logs.append(_file_log(_TELEMETRY_PIPE, SubstitutionFormatString(json_format=fields)))
    return logs


def _file_log(path: str, log_format: SubstitutionFormatString) -> AccessLog:
    log = FileAccessLog(path=path, log_format=log_format)
    return AccessLog(name="envoy.access_loggers.file", typed_config=packed(log))


def _http_filters(guards: Sequence[HttpFilter]) -> list[HttpFilter]:
    """Istio's order. The optional two are ours: Envoy, which has them not, passes them over."""
    return [
        HttpFilter(
            name="istio.metadata_exchange",
            is_optional=True,
            typed_config=typed_struct("type.googleapis.com/io.istio.http.peer_metadata.Config"),
        ),
        *guards,
        HttpFilter(name="envoy.filters.http.fault", typed_config=packed(HTTPFault())),
        HttpFilter(name="envoy.filters.http.cors", typed_config=packed(Cors())),
        HttpFilter(
            name=_STATS,
            is_optional=True,
            typed_config=typed_struct(_STATS_TYPE),
        ),
        HttpFilter(name="envoy.filters.http.router", typed_config=packed(Router())),
    ]
