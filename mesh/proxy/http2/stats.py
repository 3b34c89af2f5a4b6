"""Envoy's counters of its HTTP/2 codec, `http2.*` for all listeners and `cluster.<name>.http2.*`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mesh.proxy.observe.stats import Group


@dataclass(slots=True, eq=False)
class Http2Stats(Group):
    GAUGES: ClassVar[frozenset[str]] = frozenset({"streams_active"})

    dropped_headers_with_underscores: int = 0
    goaway_sent: int = 0
    header_list_size_too_large: int = 0
    header_overflow: int = 0
    headers_cb_no_stream: int = 0
    inbound_empty_frames_flood: int = 0
    inbound_priority_frames_flood: int = 0
    inbound_window_update_frames_flood: int = 0
    keepalive_timeout: int = 0
    outbound_control_flood: int = 0
    outbound_flood: int = 0
    requests_rejected_with_underscores_in_headers: int = 0
    rx_messaging_error: int = 0
    rx_reset: int = 0
    stream_refused_errors: int = 0
    trailers: int = 0
    tx_flush_timeout: int = 0
    tx_reset: int = 0
    streams_active: int = 0
