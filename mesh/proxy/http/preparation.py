"""What a connection manager does to a request's host, path and header names before it looks for a route.

Each function makes one step from a part of the configuration; a step answers whether the request ends there. A manager
without such options has no steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from mesh.proxy.observe.downstream_counters import Http1Stats

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream

Prepare = Callable[["Stream"], bool]
_ESCAPED_SLASH = re.compile(rb"%2[fF]|%5[cC]")
_SLASHES = {b"%2f": b"/", b"%5c": b"\\"}


def normalized(normalize: Callable[[bytes], bytes]) -> Prepare:
    """normalize_path, merge_slashes."""

    def prepare(stream: Stream) -> bool:
        target = stream.head.target
        if _has_nul(target):
            return _refuse_path(stream)
        stream.head.target = normalize(target)
        return False

    return prepare


def rejected_https_target(stream: Stream) -> bool:
    """At an edge that trusts nobody in front: over plaintext no `https://` can be asked for, by HTTP/1 at least."""
    connection = stream.connection
    if (
        stream.head.marked.get(b":scheme") != b"https"
        or connection.scheme == b"https"
        or connection.protocol == "HTTP/2"
    ):
        return False
    connection.will_close = True
    stream.reply(403, b"Forbidden", "DPE", "http1.https_url_on_plaintext_connection")
    return True


def _has_nul(target: bytes) -> bool:
    return b"%00" in target and b"%00" in target.partition(b"?")[0]


def rejected_escapes(stream: Stream) -> bool:
    """path_with_escaped_slashes_action: REJECT_REQUEST."""
    if _ESCAPED_SLASH.search(stream.head.target.partition(b"?")[0]) is None:
        return False
    return _refuse_path(stream)


def _refuse_path(stream: Stream) -> bool:
    stream.connection.will_close = True
    stream.reply(400, b"", "", "path_normalization_failed")
    return True


def unescaped(normalize: Callable[[bytes], bytes] | None, *, redirects: bool) -> Prepare:
    """UNESCAPE_AND_FORWARD, or UNESCAPE_AND_REDIRECT, to the path as the other options then have it."""

    def prepare(stream: Stream) -> bool:
        head = stream.head
        if normalize is not None and _has_nul(head.target):
            return _refuse_path(stream)
        path, question, query = head.target.partition(b"?")
        plain = _ESCAPED_SLASH.sub(lambda found: _SLASHES[found[0].lower()], path)
        target = plain + question + query
        head.target = target if normalize is None else normalize(target)
        if not redirects or plain == path:
            return False
        stream.reply(307, b"", "", "path_normalization_failed", b"location: %b\r\n" % head.target)
        return True

    return prepare


def without_port(*, only_ours: bool) -> Prepare:
    """strip_any_host_port, or strip_matching_host_port: the host without its port."""

    def prepare(stream: Stream) -> bool:
        authority = stream.head.authority
        host, colon, port = authority.rpartition(b":")
        if not colon or not port.isdigit() or (b":" in host and host[-1:] != b"]"):
            return False
        info = stream.connection.info
        if not only_ours or (info is not None and int(port) == info.local[1]):
            _set_host(stream, host)
        return False

    return prepare


def without_trailing_dot(stream: Stream) -> bool:
    """strip_trailing_host_dot."""
    authority = stream.head.authority
    host, colon, port = authority.partition(b":")
    if host.endswith(b"."):
        _set_host(stream, host[:-1] + colon + port)
    return False


def _set_host(stream: Stream, host: bytes) -> None:
    stream.head.set(b"host", host)
    stream.head.authority = host


def rejected_underscores(stats: Http1Stats) -> Prepare:
    """headers_with_underscores_action: REJECT_REQUEST."""

    def prepare(stream: Stream) -> bool:
        if not any(_has_underscore(line) for line in stream.head.lines):
            return False
        if stream.connection.reject("unexpected_underscore"):
            stream.config.http2_stats.requests_rejected_with_underscores_in_headers += 1
            return True
        stats.requests_rejected_with_underscores_in_headers += 1
        stream.connection.will_close = True
        stream.reply(400, b"Bad Request", "DPE", "http1.unexpected_underscore")
        return True

    return prepare


def dropped_underscores(stats: Http1Stats) -> Prepare:
    """headers_with_underscores_action: DROP_HEADER."""

    def prepare(stream: Stream) -> bool:
        head = stream.head
        names = {line.partition(b":")[0].lower() for line in head.lines if _has_underscore(line)}
        if names:
            counted = stream.config.http2_stats if stream.connection.protocol == "HTTP/2" else stats
            counted.dropped_headers_with_underscores += sum(_has_underscore(line) for line in head.lines)
            head.remove(names)
        return False

    return prepare


def _has_underscore(line: bytes) -> bool:
    at = line.find(b"_")
    return 0 <= at < line.index(b":")
