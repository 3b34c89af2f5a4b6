"""Access logs that go to a gRPC service: HttpGrpcAccessLogConfig and TcpGrpcAccessLogConfig."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mesh.proxy.compile.values import seconds_or, unpack, value_or
from mesh.proxy.fields import Place, check
from mesh.proxy.observe.counters import LogServiceStats

if TYPE_CHECKING:
    from mesh.proxy.compile.http import Surroundings
    from mesh.proxy.observe.log_service import LogService

_A = "envoy.extensions.access_loggers.grpc.v3."
HTTP, TCP = _A + "HttpGrpcAccessLogConfig", _A + "TcpGrpcAccessLogConfig"
SUPPORTED = {
    HTTP: frozenset(
        ("common_config", "additional_request_headers_to_log", "additional_response_headers_to_log",
         "additional_response_trailers_to_log")
    ),
    TCP: frozenset(("common_config",)),
    _A + "CommonGrpcAccessLogConfig": frozenset(
        ("log_name", "grpc_service", "transport_api_version", "buffer_flush_interval", "buffer_size_bytes",
         "filter_state_objects_to_log")
    ),
    "envoy.config.core.v3.GrpcService": frozenset(("envoy_grpc", "initial_metadata")),
    "envoy.config.core.v3.GrpcService.EnvoyGrpc": frozenset(("cluster_name", "authority")),
    "envoy.config.core.v3.HeaderValue": frozenset(("key", "value")),
}  # fmt: skip
_V3 = 2


def service_step(packed: Any, around: Surroundings, place: Place) -> Callable[[Any], None]:
    """What takes a stream (HttpGrpcAccessLogConfig) or TCP connection to its service. Raises Refused."""
    # Loaded here, for the messages are many and few log so.
    from envoy.extensions.access_loggers.grpc.v3 import als_pb2  # noqa: PLC0415

    from mesh.proxy.observe.log_entries import Extra, http_entry, objects_of, tcp_entry  # noqa: PLC0415

    is_http = packed.TypeName() == HTTP
    kind: Any = als_pb2.HttpGrpcAccessLogConfig if is_http else als_pb2.TcpGrpcAccessLogConfig
    config = unpack(packed, kind, place)
    check(config, SUPPORTED, place)
    add = _service(config.common_config, is_http, around, place.at("common_config")).add
    objects = objects_of(config.common_config.filter_state_objects_to_log)
    if not is_http:
        return lambda connection: add(connection.worker, tcp_entry(connection, objects))
    extra = Extra(
        config.additional_request_headers_to_log,
        config.additional_response_headers_to_log,
        config.additional_response_trailers_to_log,
        objects,
    )
    return lambda stream: add(stream.worker, http_entry(stream, extra))


def _service(config: Any, is_http: bool, around: Surroundings, place: Place) -> LogService:
    from mesh.proxy.observe.log_service import LogService  # noqa: PLC0415

    if not config.log_name:
        raise place.refuse("required", "log_name")
    if config.transport_api_version != _V3:
        raise place.refuse("only V3 is supported", "transport_api_version")
    service = config.grpc_service
    if not service.envoy_grpc.cluster_name:
        raise place.refuse("only envoy_grpc is supported by this sidecar", "grpc_service")
    interval = seconds_or(config, "buffer_flush_interval", 1.0)
    if interval <= 0:
        raise place.refuse("must be greater than 0", "buffer_flush_interval")
    metadata = tuple((each.key.lower().encode(), each.value.encode()) for each in service.initial_metadata)

    def make() -> LogService:
        return LogService(
            service.envoy_grpc.cluster_name, service.envoy_grpc.authority, metadata,
            node=around.node, log_name=config.log_name,
            stats=around.stats.group(LogServiceStats, "access_logs.grpc_access_log"),
            interval=interval, size=value_or(config, "buffer_size_bytes", 16384),
        )  # fmt: skip

    found = around.files.service((is_http, config.SerializeToString(deterministic=True)), make)
    around.log_services.add(found)
    return found
