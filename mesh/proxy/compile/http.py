"""HttpConnectionManager to HttpConfig."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from envoy.config.core.v3.base_pb2 import Node
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.http.header_formatters.preserve_case.v3.preserve_case_pb2 import PreserveCaseFormatterConfig

from mesh.proxy.compile import http2, local_replies, origin, tracing
from mesh.proxy.compile.access_log import log_steps
from mesh.proxy.compile.http2 import http2_options, keepalive
from mesh.proxy.compile.preparation import compile_preparation
from mesh.proxy.compile.routes import compile_routes
from mesh.proxy.compile.upgrades import upgrades
from mesh.proxy.compile.values import networks, seconds_or, unpack, value_or, write_limit
from mesh.proxy.fields import OPAQUE, Place, check
from mesh.proxy.filters import registry
from mesh.proxy.filters.steps import Steps, chain
from mesh.proxy.filters.steps import Surroundings as FilterSurroundings
from mesh.proxy.http import response_marks
from mesh.proxy.http.config import Codec, HttpConfig
from mesh.proxy.http.local_replies import LocalReplies
from mesh.proxy.http.response_marks import ResponseMark
from mesh.proxy.http.route import RouteTable
from mesh.proxy.http1.names import proper_case
from mesh.proxy.http2.stats import Http2Stats
from mesh.proxy.observe.access_log import LogFiles
from mesh.proxy.observe.downstream_counters import HttpStats
from mesh.proxy.observe.stats import Stats

if TYPE_CHECKING:
    from mesh.proxy.observe.log_service import LogService

_H = "envoy.extensions.filters.network.http_connection_manager.v3."
TYPE = HttpConnectionManager.DESCRIPTOR.full_name
SUPPORTED = {
    _H + "HttpConnectionManager": frozenset(
        ("codec_type", "stat_prefix", "rds", "route_config", "http_filters", "common_http_protocol_options",
         "http_protocol_options", "http2_protocol_options", "drain_timeout",
         "server_name", "server_header_transformation", "max_request_headers_kb",
         "stream_idle_timeout", "delayed_close_timeout", "access_log", "use_remote_address", "generate_request_id",
         "preserve_external_request_id", "proxy_100_continue", "normalize_path", "merge_slashes",
         "internal_address_config", "upgrade_configs", "xff_num_trusted_hops", "skip_xff_append",
         "via", "append_x_forwarded_port", "add_user_agent", "scheme_header_transformation",
         "forward_client_cert_details", "set_current_client_cert_details", "original_ip_detection_extensions",
         "always_set_request_id_in_response", "strip_matching_host_port", "strip_any_host_port",
         "strip_trailing_host_dot", "path_with_escaped_slashes_action", "request_timeout", "request_headers_timeout",
         "local_reply_config", "tracing", "request_id_extension")
    ),
    _H + "HttpConnectionManager.SetCurrentClientCertDetails": frozenset(("subject", "cert", "dns", "uri")),
    "envoy.config.core.v3.SchemeHeaderTransformation": frozenset(("scheme_to_overwrite",)),
    "envoy.config.core.v3.TypedExtensionConfig": frozenset(("name", "typed_config")),
    _H + "RequestIDExtension": frozenset(("typed_config",)),
    _H + "HttpConnectionManager.Tracing": OPAQUE,  # compiled with its own table
    _H + "Rds": frozenset(("config_source", "route_config_name")),
    _H + "HttpFilter": frozenset(("name", "typed_config", "is_optional", "disabled")),
    "envoy.config.core.v3.ConfigSource": OPAQUE,
    "envoy.config.route.v3.RouteConfiguration": OPAQUE,  # compiled with its own table
    "envoy.config.accesslog.v3.AccessLog": OPAQUE,  # likewise
    _H + "HttpConnectionManager.UpgradeConfig": frozenset(("upgrade_type", "enabled")),
    "envoy.config.core.v3.HttpProtocolOptions": frozenset(
        ("idle_timeout", "max_headers_count", "headers_with_underscores_action", "max_connection_duration",
         "max_stream_duration", "max_requests_per_connection")
    ),
    _H + "HttpConnectionManager.InternalAddressConfig": frozenset(("cidr_ranges",)),
    "envoy.config.core.v3.CidrRange": frozenset(("address_prefix", "prefix_len")),
    "envoy.config.core.v3.Http1ProtocolOptions": frozenset(
        ("allow_absolute_url", "enable_trailers", "accept_http_10", "default_host_for_http_10", "header_key_format")
    ),
    "envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat": frozenset(
        ("proper_case_words", "stateful_formatter")
    ),
    PreserveCaseFormatterConfig.DESCRIPTOR.full_name: frozenset(),
    "envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat.ProperCaseWords": frozenset(),
    **local_replies.SUPPORTED,
    **http2.SUPPORTED,
}  # fmt: skip
_TRANSFORMATIONS = {0: "OVERWRITE", 1: "APPEND_IF_ABSENT", 2: "PASS_THROUGH"}
_CODECS: dict[int, Codec] = {0: "AUTO", 1: "HTTP1", 2: "HTTP2"}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a filter chain stands: what its filters may ask of the worker. `log_services` gathers those it logs to."""

    node: Node
    stats: Stats
    files: LogFiles
    is_inbound: bool
    buffer_limit: int
    is_outbound: bool = False
    log_services: set[LogService] = field(default_factory=set)


def compile_http(packed: Any, around: Surroundings, place: Place) -> HttpConfig:
    """Raises Refused."""
    # Long, because it is a table: one line for each thing that a manager is told.
    config = _checked(packed, place)
    prefix = config.stat_prefix
    stats = around.stats.group(HttpStats, f"http.{prefix}", (("envoy.http_conn_manager_prefix", prefix),))
    before, after = tracing.steps(config, around, stats, place)
    filters = (*before, *_filters(config, around, stats, place), *after)
    request, response, finish = chain(filters, {})
    logs = log_steps(config.access_log, around, place)
    max_head = value_or(config, "max_request_headers_kb", 60) * 1024
    common = config.common_http_protocol_options
    max_headers = value_or(common, "max_headers_count", 100)
    return HttpConfig(
        stats=stats,
        table=_table(config, place),
        route_name=config.rds.route_config_name,
        request_steps=request,
        response_steps=response,
        finish_steps=(*finish, *logs),
        filters=filters,
        log_steps=logs,
        server_line=b"server: %b" % (config.server_name or "envoy").encode(),
        server_transformation=_TRANSFORMATIONS[config.server_header_transformation],
        prepare=compile_preparation(config, around.stats, place),
        use_remote_address=config.use_remote_address.value,
        client_address=origin.client_address(config, place),
        mark_origin=origin.compile_origin(config, around.node, place),
        sanitizes_client_cert=config.forward_client_cert_details == origin.SANITIZE,
        cleans_always=config.use_remote_address.value or config.HasField("internal_address_config"),
        generate_request_id=value_or(config, "generate_request_id", True),
        idle_timeout=seconds_or(config.common_http_protocol_options, "idle_timeout", 3600.0),
        preserve_external_request_id=config.preserve_external_request_id,
        response_marks=_response_marks(config),
        stream_idle_timeout=seconds_or(config, "stream_idle_timeout", 300.0),
        buffer_limit=around.buffer_limit,
        write_limit=write_limit(around.buffer_limit),
        internal_ranges=networks(
            config.internal_address_config.cidr_ranges, place.at("internal_address_config.cidr_ranges")
        ),
        cuts_off=config.HasField("request_timeout") or common.HasField("max_stream_duration"),
        request_timeout=seconds_or(config, "request_timeout", 0.0),
        max_stream_duration=seconds_or(common, "max_stream_duration", 0.0),
        request_headers_timeout=seconds_or(config, "request_headers_timeout", 0.0),
        max_connection_duration=seconds_or(common, "max_connection_duration", 0.0),
        max_requests=value_or(common, "max_requests_per_connection", 0),
        accepts_http_10=config.http_protocol_options.accept_http_10,
        http_10_host=config.http_protocol_options.default_host_for_http_10.encode(),
        header_case=_header_case(config.http_protocol_options.header_key_format, place),
        local_replies=_local_replies(config, place),
        delayed_close=seconds_or(config, "delayed_close_timeout", 1.0),
        suppresses_envoy_headers=any(steps.suppresses_envoy_headers for steps in filters),
        upgrades=upgrades(config.upgrade_configs, place),
        proxy_100_continue=config.proxy_100_continue,
        max_headers=max_headers,
        max_trailers=max_headers if config.http_protocol_options.enable_trailers else 0,
        max_head=max_head,
        drain_timeout=seconds_or(config, "drain_timeout", 5.0),
        codec=_CODECS[config.codec_type],
        http2=http2_options(
            config.http2_protocol_options,
            place.at("http2_protocol_options"),
            buffer_limit=around.buffer_limit,
            max_head=max_head,
            max_headers=max_headers,
        ),
        http2_stats=around.stats.group(Http2Stats, "http2"),
        keepalive=keepalive(config.http2_protocol_options, place.at("http2_protocol_options")),
    )


def _checked(packed: Any, place: Place) -> HttpConnectionManager:
    config = unpack(packed, HttpConnectionManager, place)
    check(config, SUPPORTED, place)
    if config.codec_type not in _CODECS:
        raise place.refuse("only AUTO, HTTP1 and HTTP2 are supported", "codec_type")
    if not value_or(config.http_protocol_options, "allow_absolute_url", True):
        raise place.refuse("only true is supported by this sidecar", "http_protocol_options.allow_absolute_url")
    return config


def _table(config: HttpConnectionManager, place: Place) -> RouteTable | None:
    """The routes that stand in the configuration itself; None of those that come by RDS."""
    if config.HasField("route_config"):
        return compile_routes(config.route_config, place.at("route_config"), is_inline=True)
    if not config.HasField("rds"):
        raise place.refuse("one of rds, route_config is required")
    return None


def _local_replies(config: HttpConnectionManager, place: Place) -> LocalReplies | None:
    if not config.HasField("local_reply_config"):
        return None
    return local_replies.compile_local_replies(config.local_reply_config, place.at("local_reply_config"))


def _header_case(form: Any, place: Place) -> Callable[[list[bytes]], list[bytes]] | None:
    """What the names of responses go through; None where they go as they came, which is also what preserves case."""
    if form.HasField("stateful_formatter"):
        inside = place.at("http_protocol_options.header_key_format.stateful_formatter.typed_config")
        check(unpack(form.stateful_formatter.typed_config, PreserveCaseFormatterConfig, inside), SUPPORTED, inside)
    return proper_case if form.HasField("proper_case_words") else None


def _response_marks(config: Any) -> tuple[ResponseMark, ...]:
    marks: list[ResponseMark] = []
    if config.always_set_request_id_in_response:
        marks.append(response_marks.request_id)
    if config.via:
        marks.append(response_marks.via(config.via.encode()))
    return tuple(marks)


def _filters(config: Any, around: Surroundings, stats: HttpStats, place: Place) -> tuple[Steps, ...]:
    filters: list[Steps] = []
    surroundings = FilterSurroundings(around.node, around.is_inbound, stats, around.stats, config.stat_prefix)
    ended = False
    for index, each in enumerate(config.http_filters):
        inside = place.at(f"http_filters[{index}]")
        if ended:
            raise inside.refuse("the router must be the last filter")
        if each.WhichOneof("config_type") not in ("typed_config", None):
            raise inside.refuse("only typed_config is supported")
        filters.append(registry.compile_filter(each, surroundings, inside))
        ended = filters[-1].is_router
    if not ended:
        raise place.refuse("the last filter must be the router", "http_filters")
    return tuple(filters)
