"""What an HTTP/2 connection was told to allow: Envoy's `Http2ProtocolOptions`, with Envoy's defaults."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_WINDOW = 65535  # RFC 9113 section 6.9.2
DEFAULT_FRAME = 16384
MAX_WINDOW = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Http2Options:
    """Sizes in bytes. `buffer_limit` is how much payload may wait in one stream before its producer is told to stop."""

    hpack_table_size: int = 4096
    max_concurrent_streams: int = 1024
    initial_stream_window_size: int = 16 * 1024 * 1024
    initial_connection_window_size: int = 24 * 1024 * 1024
    allow_connect: bool = False
    stream_error_on_invalid_message: bool = False
    max_outbound_frames: int = 10000
    max_outbound_control_frames: int = 1000
    max_empty_frames: int = 1  # max_consecutive_inbound_frames_with_empty_payload
    max_priority_frames_per_stream: int = 100
    max_window_updates_per_data_frame: int = 10
    max_head: int = 60 * 1024
    max_headers: int = 100
    buffer_limit: int = 1024 * 1024
