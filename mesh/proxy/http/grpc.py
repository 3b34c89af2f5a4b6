"""What is different for a gRPC call: how failures are answered, deadlines, and what its statuses mean in HTTP.

Pure functions of heads; the words are Envoy's. (`grpc.github.io/grpc/core/md_doc_statuscodes.html`)
"""

from __future__ import annotations

import re

from mesh.proxy.http1.head import Head, ResponseHead

UNKNOWN, DEADLINE_EXCEEDED = 2, 4
_TYPE = re.compile(rb"application/grpc(\+.*)?", re.DOTALL)
_OF_HTTP = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_IN_HTTP = {
    0: 200, 1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501,
    13: 500, 14: 503, 15: 500, 16: 401,
}  # fmt: skip
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_UNITS = {b"H": 3_600_000_000_000, b"M": 60_000_000_000, b"S": 1_000_000_000, b"m": 1_000_000, b"u": 1000, b"n": 1}
_ESCAPED = re.compile(rb"[^ -$&-~]")


def is_grpc(head: Head) -> bool:
    """Whether a request is a gRPC call; gRPC-Web is not."""
    kind = head.marked.get(b"content-type")
    return kind is not None and _TYPE.fullmatch(kind) is not None


def status_of_http(status: int) -> int:
    """The gRPC status that an HTTP status of our own stands for."""
    return _OF_HTTP.get(status, UNKNOWN)


def http_status(status: bytes) -> int:
    """The HTTP status that a gRPC status stands for, where only HTTP's are judged."""
    return _IN_HTTP.get(int(status), 500) if status.isdigit() and len(status) < 4 else 500


def local_head(status: int, message: bytes, headers: bytes, date: bytes) -> ResponseHead:
    """The head of a reply of our own, which is all of it; `status` is gRPC's, `headers` are whole lines."""
    lines = [b"content-type: application/grpc", b"grpc-status: %d" % status]
    if message:
        lines.append(b"grpc-message: %b" % _ESCAPED.sub(_escape, message))
    lines += [line for line in headers.split(b"\r\n") if line]
    lines.append(b"date: %b" % date)
    return ResponseHead.own(200, lines, {b"grpc-status": b"%d" % status})


def _escape(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found[0][0]


def read_timeout(head: Head) -> float | None:
    """The client's deadline (`grpc-timeout`) in seconds, rounded up to whole milliseconds; None if there is none."""
    found = _TIMEOUT.fullmatch(head.get(b"grpc-timeout") or b"")
    if found is None:
        return None
    nanoseconds = int(found[1]) * _UNITS[found[2]]
    return -(-nanoseconds // 1_000_000) / 1000


def write_timeout(head: Head, seconds: float) -> None:
    """Set the deadline that the upstream is told."""
    value = round(seconds * 1000)
    for unit, factor in ((b"m", 1), (b"S", 1000), (b"M", 60_000)):
        if value // factor < 100_000_000:
            head.set(b"grpc-timeout", b"%d%b" % (value // factor, unit))
            return
    head.set(b"grpc-timeout", b"%dH" % min(value // 3_600_000, 99_999_999))
