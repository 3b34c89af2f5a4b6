"""Http2ProtocolOptions, of listeners and of clusters, to what the codec takes."""

from __future__ import annotations

from typing import Any

from mesh.proxy.compile.values import seconds_or, value_or
from mesh.proxy.fields import Place
from mesh.proxy.http2.options import DEFAULT_WINDOW, MAX_WINDOW, Http2Options
from mesh.proxy.upstream.keepalive import KeepaliveConfig

_C = "envoy.config.core.v3."
SUPPORTED = {
    _C + "Http2ProtocolOptions": frozenset(
        ("hpack_table_size", "max_concurrent_streams", "initial_stream_window_size", "initial_connection_window_size",
         "allow_connect", "max_outbound_frames", "max_outbound_control_frames",
         "max_consecutive_inbound_frames_with_empty_payload", "max_inbound_priority_frames_per_stream",
         "max_inbound_window_update_frames_per_data_frame_sent", "stream_error_on_invalid_http_messaging",
         "override_stream_error_on_invalid_http_message", "connection_keepalive")
    ),
    _C + "KeepaliveSettings": frozenset(("interval", "timeout", "interval_jitter")),
    "envoy.type.v3.Percent": frozenset(("value",)),
}  # fmt: skip
_JITTER = 15.0  # percent


def http2_options(config: Any, place: Place, *, buffer_limit: int, max_head: int, max_headers: int) -> Http2Options:
    """Sizes in bytes. Raises Refused."""
    default = Http2Options()
    for field in ("initial_stream_window_size", "initial_connection_window_size"):
        if config.HasField(field) and not DEFAULT_WINDOW <= getattr(config, field).value <= MAX_WINDOW:
            raise place.refuse(f"must be between {DEFAULT_WINDOW} and {MAX_WINDOW}", field)
    return Http2Options(
        hpack_table_size=value_or(config, "hpack_table_size", default.hpack_table_size),
        max_concurrent_streams=value_or(config, "max_concurrent_streams", default.max_concurrent_streams),
        initial_stream_window_size=value_or(config, "initial_stream_window_size", default.initial_stream_window_size),
        initial_connection_window_size=value_or(
            config, "initial_connection_window_size", default.initial_connection_window_size
        ),
        allow_connect=config.allow_connect,
        stream_error_on_invalid_message=value_or(
            config, "override_stream_error_on_invalid_http_message", config.stream_error_on_invalid_http_messaging
        ),
        max_outbound_frames=value_or(config, "max_outbound_frames", default.max_outbound_frames),
        max_outbound_control_frames=value_or(
            config, "max_outbound_control_frames", default.max_outbound_control_frames
        ),
        max_empty_frames=value_or(
            config, "max_consecutive_inbound_frames_with_empty_payload", default.max_empty_frames
        ),
        max_priority_frames_per_stream=value_or(
            config, "max_inbound_priority_frames_per_stream", default.max_priority_frames_per_stream
        ),
        max_window_updates_per_data_frame=value_or(
            config, "max_inbound_window_update_frames_per_data_frame_sent", default.max_window_updates_per_data_frame
        ),
        max_head=max_head,
        max_headers=max_headers,
        buffer_limit=buffer_limit,
    )


def keepalive(config: Any, place: Place) -> KeepaliveConfig | None:
    """`connection_keepalive`; None if no PINGs are to be sent. Raises Refused."""
    settings = config.connection_keepalive
    if not config.HasField("connection_keepalive") or not settings.HasField("interval"):
        return None
    inside = place.at("connection_keepalive")
    interval, timeout = seconds_or(settings, "interval", 0), seconds_or(settings, "timeout", 0)
    if interval < 0.001 or timeout < 0.001:
        raise inside.refuse("interval and timeout must be at least 1 ms")
    jitter = settings.interval_jitter.value if settings.HasField("interval_jitter") else _JITTER
    return KeepaliveConfig(interval, timeout, jitter / 100)
