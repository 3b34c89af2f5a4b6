"""`envoy.filters.listener.http_inspector`: is plaintext HTTP, and of which version."""

from __future__ import annotations

import re
import socket

from mesh.proxy.downstream.connection_info import ConnectionInfo
from mesh.proxy.downstream.listener_filters.listener_filter import Spares
from mesh.proxy.http1.parse import METHODS
from mesh.proxy.http2.frames import PREFACE
from mesh.proxy.observe.downstream_counters import HttpInspectorStats

_LONGEST = 64 * 1024  # what Envoy looks at, at most
_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [^ ]+ HTTP/1\.([01])\Z")
_LINE_END = re.compile(rb"[\r\n]")


class HttpInspector:
    """Says the application protocol by Envoy's names: `h2c`, `http/1.1`, `http/1.0`."""

    needs_data = True
    spares: Spares | None = None

    def __init__(self, stats: HttpInspectorStats) -> None:
        self._stats = stats

    def accepted(self, info: ConnectionInfo, connected: socket.socket) -> None:
        """Nothing to be seen yet."""

    def inspect(self, data: bytes, info: ConnectionInfo) -> int | None:
        if info.transport_protocol not in ("", "raw_buffer"):
            return 0
        stats = self._stats
        if data.startswith(PREFACE):
            stats.http2_found += 1
            info.application_protocols = ("h2c",)
            return 0
        if PREFACE.startswith(data):
            return None
        end = _LINE_END.search(data)
        if end is None and len(data) <= _LONGEST and _may_be_request(data):
            return None
        line = _LINE.match(data[: end.start()]) if end is not None else None
        if line is None or line[0].partition(b" ")[0] not in METHODS:
            stats.http_not_found += 1
        elif line[1] == b"1":
            stats.http11_found += 1
            info.application_protocols = ("http/1.1",)
        else:
            stats.http10_found += 1
            info.application_protocols = ("http/1.0",)
        return 0


def _may_be_request(data: bytes) -> bool:
    """Whether a request line may still become of it."""
    method, blank, rest = data.partition(b" ")
    if not blank:
        return any(known.startswith(method) for known in METHODS)
    _, _, version = rest.partition(b" ")
    return method in METHODS and (b"HTTP/1.1".startswith(version) or b"HTTP/1.0".startswith(version))
