"""How long a route's streams may take: `max_stream_duration`, and gRPC's deadlines as their clients tell them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesh.proxy.compile.values import seconds, seconds_or
from mesh.proxy.http.grpc import read_timeout, write_timeout
from mesh.proxy.http1.head import RequestHead

SUPPORTED = {
    "envoy.config.route.v3.RouteAction.MaxStreamDuration": frozenset(
        ("max_stream_duration", "grpc_timeout_header_max", "grpc_timeout_header_offset")
    ),
}
_AT_ONCE = 1e-6  # 0 means none


def max_duration(action: Any) -> Callable[[RequestHead, float], float] | None:
    """From a request, and the connection manager's limit, to how long its stream may take, 0 for ever; it tells the
    upstream the deadline that it has worked out. None if the route says nothing.
    """
    if not action.HasField("max_stream_duration"):
        return None
    config = action.max_stream_duration
    fixed = seconds(config.max_stream_duration) if config.HasField("max_stream_duration") else None
    heeds_client = config.HasField("grpc_timeout_header_max")
    most, offset = seconds(config.grpc_timeout_header_max), seconds(config.grpc_timeout_header_offset)

    def limit(head: RequestHead, default: float) -> float:
        wanted = read_timeout(head)
        if wanted is None or not heeds_client:
            duration = default if fixed is None else fixed
            if not duration:
                return 0.0
        else:
            duration = min(wanted, most) if most else wanted
            duration = max(duration - offset, 0.0)
        if wanted is not None:
            write_timeout(head, duration)
        return duration or _AT_ONCE

    return limit


def grpc_timeout(action: Any) -> Callable[[RequestHead], float] | None:
    """From a gRPC request to its route's timeout (0 for none), by the older fields; None if the route has none."""
    if not action.HasField("max_grpc_timeout"):
        return None
    most, offset = seconds(action.max_grpc_timeout), seconds_or(action, "grpc_timeout_offset", 0.0)

    def timeout(head: RequestHead) -> float:
        wanted = read_timeout(head) or 0.0
        if offset < wanted:
            wanted -= offset
        return most if most and (not wanted or wanted > most) else wanted

    return timeout
