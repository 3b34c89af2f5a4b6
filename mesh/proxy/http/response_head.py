"""The response's head on its way to the client: an upstream's, and those that we answer with ourselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.proxy.http.request_head import listed_headers
from mesh.proxy.http1.head import ResponseHead

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream


def _service_time(ms: int) -> tuple[bytes, bytes]:
    value = b"%d" % ms
    return value, b"x-envoy-upstream-service-time: %b" % value


_SERVICE_TIMES = tuple(map(_service_time, range(1000)))  # what is not slow need not be written anew


def prepare(stream: Stream, head: ResponseHead, now: float, service_ms: float) -> None:
    """What the router adds to an upstream's head; `service_ms` is how long the upstream took for it."""
    marked, lines = head.marked, head.lines
    if b"connection" in marked and (listed := listed_headers(marked[b"connection"])):
        head.remove(listed)
        lines = head.lines
    ms = int(service_ms)
    value, line = _SERVICE_TIMES[ms] if ms < len(_SERVICE_TIMES) else _service_time(ms)
    marked[b"x-envoy-upstream-service-time"] = value
    lines.append(line)
    if stream.route is not None and stream.route.counts_attempts_in_response:
        head.set(b"x-envoy-attempt-count", b"%d" % stream.attempts)
        lines = head.lines
    if b"date" not in marked:
        lines.append(stream.worker.clock.line(now))


def restore_server(head: ResponseHead) -> None:
    """Let the upstream's `server` stand, which only final responses lose to ours."""
    if b"server" in head.marked:
        head.lines.append(b"server: %b" % head.marked[b"server"])


def local_head(
    status: int, body: bytes, headers: bytes, date: bytes, content_type: bytes = b"text/plain"
) -> ResponseHead:
    """The head of a reply of our own; `headers` are whole lines with their ends."""
    lines = [line for line in headers.split(b"\r\n") if line]
    marked: dict[bytes, bytes] = {}
    if body:
        length = marked[b"content-length"] = b"%d" % len(body)
        lines[:0] = [b"content-length: %b" % length, b"content-type: %b" % content_type]
    lines.append(b"date: %b" % date)
    return ResponseHead.own(status, lines, marked)
