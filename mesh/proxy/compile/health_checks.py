"""HealthCheck to how hosts are checked."""

from __future__ import annotations

from functools import partial
from typing import Any

from mesh.proxy.compile.values import seconds, seconds_or, value_or
from mesh.proxy.fields import Place
from mesh.proxy.upstream.health.checker import HealthCheckConfig
from mesh.proxy.upstream.health.grpc import GrpcCheck, GrpcProbe
from mesh.proxy.upstream.health.http import HttpCheck, HttpProbe
from mesh.proxy.upstream.health.session import Pace
from mesh.proxy.upstream.health.tcp import TcpCheck, TcpProbe
from mesh.proxy.upstream.http_options import Protocols

_H = "envoy.config.core.v3.HealthCheck"
SUPPORTED = {
    _H: frozenset(
        ("timeout", "interval", "initial_jitter", "interval_jitter", "interval_jitter_percent", "unhealthy_threshold",
         "healthy_threshold", "alt_port", "reuse_connection", "http_health_check", "tcp_health_check",
         "grpc_health_check", "no_traffic_interval", "no_traffic_healthy_interval", "unhealthy_interval",
         "unhealthy_edge_interval", "healthy_edge_interval")
    ),
    _H + ".Payload": frozenset(("text", "binary")),
    _H + ".HttpHealthCheck": frozenset(
        ("host", "path", "request_headers_to_add", "request_headers_to_remove", "expected_statuses",
         "retriable_statuses", "codec_client_type", "method")
    ),
    _H + ".TcpHealthCheck": frozenset(("send", "receive")),
    _H + ".GrpcHealthCheck": frozenset(("service_name", "authority", "initial_metadata")),
    "envoy.type.v3.Int64Range": frozenset(("start", "end")),
    "envoy.config.core.v3.HeaderValueOption": frozenset(("header", "append", "append_action", "keep_empty_value")),
    "envoy.config.core.v3.HeaderValue": frozenset(("key", "value", "raw_value")),
}  # fmt: skip
_CONNECT = 6
_HTTP1, _HTTP2 = 0, 1
_METHODS = {0: b"GET", 1: b"GET", 2: b"HEAD", 3: b"POST", 4: b"PUT", 5: b"DELETE", 7: b"OPTIONS", 8: b"TRACE",
            9: b"PATCH"}  # fmt: skip


def compile_health_check(cluster: Any, protocols: Protocols, place: Place) -> HealthCheckConfig | None:
    """The health check of a Cluster whose fields have been checked; None without one. Raises Refused."""
    if not cluster.health_checks:
        return None
    if len(cluster.health_checks) > 1:
        raise place.refuse("multiple health checks are not supported", "health_checks")
    inside = place.at("health_checks[0]")
    check = cluster.health_checks[0]
    kind = check.WhichOneof("health_checker")
    pace = _pace(check, inside)
    if kind == "http_health_check":
        http = _http(check, inside.at("http_health_check"))
        return HealthCheckConfig(pace, partial(HttpProbe, http))
    if kind == "tcp_health_check":
        tcp = _tcp(check, inside.at("tcp_health_check"))
        return HealthCheckConfig(pace, partial(TcpProbe, tcp))
    if kind == "grpc_health_check":
        if protocols is Protocols.HTTP1:
            raise place.refuse("must support HTTP/2 for gRPC healthchecking", "health_checks")
        grpc = _grpc(check, inside.at("grpc_health_check"))
        return HealthCheckConfig(pace, partial(GrpcProbe, grpc))
    raise inside.refuse("one of http_health_check, tcp_health_check, grpc_health_check is required")


def _pace(check: Any, place: Place) -> Pace:
    for field in ("timeout", "interval"):
        if seconds(getattr(check, field)) <= 0:
            raise place.refuse("must be greater than 0", field)
    for field in ("unhealthy_threshold", "healthy_threshold"):
        if not check.HasField(field):
            raise place.refuse("required", field)
    interval = seconds(check.interval)
    unhealthy = seconds_or(check, "unhealthy_interval", interval)
    no_traffic = seconds_or(check, "no_traffic_interval", 60.0)
    return Pace(
        timeout=seconds(check.timeout),
        unhealthy_threshold=check.unhealthy_threshold.value,
        healthy_threshold=check.healthy_threshold.value,
        interval=interval,
        unhealthy_interval=unhealthy,
        unhealthy_edge_interval=seconds_or(check, "unhealthy_edge_interval", unhealthy),
        healthy_edge_interval=seconds_or(check, "healthy_edge_interval", interval),
        no_traffic_interval=no_traffic,
        no_traffic_healthy_interval=seconds_or(check, "no_traffic_healthy_interval", no_traffic),
        initial_jitter=seconds(check.initial_jitter),
        interval_jitter=seconds(check.interval_jitter),
        interval_jitter_percent=check.interval_jitter_percent,
    )


def _http(check: Any, place: Place) -> HttpCheck:
    http = check.http_health_check
    if not http.path:
        raise place.refuse("required", "path")
    if http.codec_client_type not in (_HTTP1, _HTTP2):
        raise place.refuse("only HTTP1 and HTTP2 are supported", "codec_client_type")
    if http.method == _CONNECT:
        raise place.refuse("CONNECT is not allowed", "method")
    return HttpCheck(
        path=http.path.encode(),
        method=_METHODS[http.method],
        host=http.host,
        lines=_lines(http, "request_headers_to_add", http.request_headers_to_remove, place),
        expected=_statuses(http.expected_statuses, place.at("expected_statuses")) or frozenset((200,)),
        retriable=_statuses(http.retriable_statuses, place.at("retriable_statuses")),
        keeps_connection=value_or(check, "reuse_connection", True),
        port=value_or(check, "alt_port", 0),
        is_http2=http.codec_client_type == _HTTP2,
    )


def _tcp(check: Any, place: Place) -> TcpCheck:
    tcp = check.tcp_health_check
    return TcpCheck(
        send=_payload(tcp.send, place.at("send")),
        receive=tuple(_payload(each, place.at(f"receive[{i}]")) for i, each in enumerate(tcp.receive)),
        keeps_connection=value_or(check, "reuse_connection", True),
        port=value_or(check, "alt_port", 0),
    )


def _grpc(check: Any, place: Place) -> GrpcCheck:
    grpc = check.grpc_health_check
    metadata = _lines(grpc, "initial_metadata", (), place)
    timeout = b"grpc-timeout: %dm" % (seconds(check.timeout) * 1000)
    return GrpcCheck(
        service=grpc.service_name,
        authority=grpc.authority,
        lines=(b"te: trailers", b"content-type: application/grpc", timeout, *metadata),
        keeps_connection=value_or(check, "reuse_connection", True),
        port=value_or(check, "alt_port", 0),
    )


def _lines(config: Any, field: str, removals: Any, place: Place) -> tuple[bytes, ...]:
    removed = frozenset(name.lower().encode() for name in removals)
    headers = [header for header in ((b"user-agent", b"Envoy/HC"),) if header[0] not in removed]
    for index, option in enumerate(getattr(config, field)):
        inside = place.at(f"{field}[{index}]")
        name = option.header.key.lower().encode()
        value = option.header.value.encode() or option.header.raw_value
        if b"%" in value.replace(b"%%", b""):
            raise inside.refuse("formatted values are not supported", "header.value")
        if name.startswith(b":") or name in (b"host", b"connection", b"content-length", b"transfer-encoding"):
            raise inside.refuse(f"{option.header.key} cannot be set", "header.key")
        if any(byte in value for byte in b"\r\n\0"):
            raise inside.refuse("malformed value", "header.value")
        headers = _with(headers, name, value.replace(b"%%", b"%"), option)
    return tuple(b"%b: %b" % header for header in headers)


def _with(headers: list[tuple[bytes, bytes]], name: bytes, value: bytes, option: Any) -> list[tuple[bytes, bytes]]:
    action = option.append_action
    if option.HasField("append"):
        action = 0 if option.append.value else 2
    is_there = any(known == name for known, _ in headers)
    if (action == 1 and is_there) or (action == 3 and not is_there) or (not value and not option.keep_empty_value):
        return headers
    if action != 0:
        headers = [header for header in headers if header[0] != name]
    return [*headers, (name, value)]


def _statuses(ranges: Any, place: Place) -> frozenset[int]:
    for index, each in enumerate(ranges):
        if not 100 <= each.start < each.end <= 600:
            raise place.refuse("must be a half-open range within 100 to 600", f"[{index}]")
    return frozenset(status for each in ranges for status in range(each.start, each.end))


def _payload(payload: Any, place: Place) -> bytes:
    if payload.WhichOneof("payload") != "text":
        return payload.binary
    try:
        return bytes.fromhex(payload.text)
    except ValueError as error:
        raise place.refuse(f"not hexadecimal: {payload.text}", "text") from error
