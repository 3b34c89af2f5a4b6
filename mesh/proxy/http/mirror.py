"""Mirrored requests (`request_mirror_policies`): copies that go to another cluster, and whose answers nobody waits for.

A mirror never holds up the request that it copies. What its upstream does not take is kept up to a limit, and then the
mirror is given up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh.proxy.http.request_head import put_host
from mesh.proxy.http1.head import RequestHead
from mesh.proxy.upstream.async_client import AsyncStream, mark_own

if TYPE_CHECKING:
    from mesh.proxy.http.relay import Relay
    from mesh.proxy.http.route import HeaderEdit
    from mesh.proxy.http.stream import Stream
    from mesh.proxy.http1.head import Head


@dataclass(frozen=True, slots=True)
class MirrorPolicy:
    """A compiled RequestMirrorPolicy. `cluster` is empty if the request names none; `host` replaces the authority."""

    cluster: Callable[[Stream], str]
    draws: Callable[[Stream], bool]
    appends_suffix: bool
    host: bytes | None
    edit: HeaderEdit | None

    def begin(self, stream: Stream, body: bytes | None, done: bool, limit: int) -> Mirror | None:
        """Send a copy of the stream's request, with what there is of its body (None if it has none).

        None if this one is not mirrored.
        """
        if not self.draws(stream) or not (cluster := self.cluster(stream)):
            return None
        mirror = Mirror(stream, cluster, self._head(stream), limit)
        mirror.start(body, done)
        return mirror

    def _head(self, stream: Stream) -> RequestHead:
        head = stream.head
        copy = RequestHead(head.method, head.target, head.authority, list(head.lines), dict(head.marked))
        if self.edit is not None:
            self.edit.apply(copy, stream)
        host = self.host
        if host is None and self.appends_suffix:
            host = _with_suffix(copy.authority)
        if host is not None:
            put_host(copy, host)
        mark_own(copy, 0.0)
        return copy


def _with_suffix(authority: bytes) -> bytes:
    """`name:port` to `name-shadow:port`, by which a log tells mirrors from requests."""
    name, colon, port = authority.rpartition(b":")
    return b"%b-shadow:%b" % (name, port) if colon and port.isdigit() else authority + b"-shadow"


class Mirror(AsyncStream):
    """One copy under way. Its response is read, counted and dropped."""

    __slots__ = ("_limit", "_waiting")

    def __init__(self, stream: Stream, cluster: str, head: RequestHead, limit: int) -> None:
        timeout = stream.route_timeout
        AsyncStream.__init__(self, stream.worker, cluster, head, timeout)
        self._limit = limit
        self._waiting = 0  # bytes that its upstream has not taken, as far as is known

    def send_payload(self, payload: bytes, done: bool) -> None:
        if self.upstream is None or self.is_blocked:
            self._waiting += len(payload)
            if self._waiting > self._limit:
                self.cancel()
        else:
            self._waiting = 0
        super().send_payload(payload, done)


def begin_mirrors(relay: Relay, policies: tuple[MirrorPolicy, ...]) -> None:
    """Start the copies that the route asks for, with what is there of the request; the rest follows as it comes."""
    body, limit = relay.body, relay.buffer_limit
    done = relay.request_done and (body is None or body.trailers is None)
    begun = [policy.begin(relay, None if body is None else relay.request_body, done, limit) for policy in policies]
    relay.mirrors = tuple(mirror for mirror in begun if mirror is not None and not mirror.is_over)
    if body is not None and body.trailers is not None:
        end_mirrors(relay, body.trailers)
    elif done:
        relay.mirrors = ()


def end_mirrors(relay: Relay, trailers: Head) -> None:
    """The request ends with these trailers, and so do its copies."""
    for mirror in relay.mirrors:
        mirror.send_trailers(trailers)
    relay.mirrors = ()
