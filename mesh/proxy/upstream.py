"""One connection to a host: sends one request at a time, reads its response, and says whether it may be used again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

from mesh.proxy.http1.body import Body, UntilClose, response_body
from mesh.proxy.http1.errors import MalformedError
from mesh.proxy.http1.head import ResponseHead
from mesh.proxy.http1.parse import MAX_HEAD, parse_response
from mesh.proxy.rescue import Failure, UpstreamBroke, UpstreamClosed

if TYPE_CHECKING:
    from mesh.proxy.pool import Pool


class Caller(Protocol):
    """Who sent the request: what an upstream connection tells of the response."""

    method: bytes

    def response_received(self, head: ResponseHead, payload: bytes, done: bool) -> None: ...
    def payload_received(self, payload: bytes, done: bool) -> None: ...
    def upstream_failed(self, failure: Failure) -> None: ...
    def upstream_blocked(self) -> None: ...
    def upstream_unblocked(self) -> None: ...


class Upstream(asyncio.Protocol):
    """HTTP/1.1 client connection. It goes back to its pool only when a message ended cleanly on both sides."""

    __slots__ = (
        "_body", "_buffer", "_reusable", "caller", "connected_at", "deadline", "local_address", "pool",
        "request_done", "requests", "transport",
    )  # fmt: skip

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport = None  # type: ignore[assignment] # until connection_made
        self.caller: Caller | None = None
        self.request_done = False
        self.requests = 0
        self.connected_at = 0.0
        self.deadline = 0.0
        self.local_address = ""
        self._buffer = b""
        self._body: Body | None = None
        self._reusable = True

    # From the pool and the exchange

    def abandon(self) -> None:
        """The caller wants no more of the response: the connection cannot be used again."""
        self.caller = None
        self.pool.ended()
        self.close()

    def close(self) -> None:
        self._reusable = False
        if self.transport is not None:
            self.transport.abort()

    def is_open(self) -> bool:
        return self._reusable and not self.transport.is_closing()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        local = transport.get_extra_info("sockname")
        self.local_address = f"{local[0]}:{local[1]}"
        self.pool.connected(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._reusable = False
        caller, self.caller = self.caller, None
        self.pool.lost(self, had_caller=caller is not None)
        if caller is None:
            return
        if type(self._body) is UntilClose and exc is None:
            caller.payload_received(b"", True)
        elif exc is None and (self._buffer or self._body is not None):
            self.pool.stats.upstream_cx_protocol_error += 1
            caller.upstream_failed(UpstreamBroke())  # it ended in the middle of a message
        else:
            caller.upstream_failed(UpstreamClosed())

    def data_received(self, data: bytes) -> None:
        caller = self.caller
        if caller is None:
            self.close()  # bytes that no request asked for; they must never reach the next one
            return
        body = self._body
        try:
            if body is not None:
                payload = body.take(data)
                done = body.done
                if done:
                    self._finish(body.rest)
                caller.payload_received(payload, done)
                return
            self._head_received(caller, self._buffer + data if self._buffer else data)
        except MalformedError as error:
            self.pool.stats.upstream_cx_protocol_error += 1
            if self.caller is None:
                return  # the head was enough for the caller to let go
            self.abandon()
            caller.upstream_failed(UpstreamBroke(error.details))

    def _head_received(self, caller: Caller, data: bytes) -> None:
        self._buffer = b""
        head, rest = None, data
        while head is None or head.status < 200:
            end = rest.find(b"\r\n\r\n")
            if end < 0:
                if len(rest) > MAX_HEAD:
                    raise MalformedError("http1.headers_too_large")
                self._buffer = rest
                return
            head, rest = parse_response(rest[:end]), rest[end + 4 :]
            if head.status == 101:
                raise MalformedError("http1.codec_error")
        body = response_body(head, caller.method)
        marked = head.marked
        if head.http_10 or b"connection" in marked:
            self._reusable = _keeps_alive(head)
        payload = b""
        done = body is None
        if body is not None:
            self._body = body
            if rest:
                try:
                    payload = body.take(rest)
                except MalformedError:
                    caller.response_received(head, b"", False)
                    raise
                rest = body.rest
                done = body.done
        if done:
            self._finish(rest)
        caller.response_received(head, payload, done)

    def _finish(self, rest: bytes) -> None:
        """The response is complete; `rest` is what came after it and must be nothing."""
        self.caller = None
        self._body = None
        if rest or not self.request_done:
            self._reusable = False
        self.pool.finished(self)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        if self.caller is not None:
            self.caller.upstream_blocked()

    def resume_writing(self) -> None:
        if self.caller is not None:
            self.caller.upstream_unblocked()

    # Deadline of an idle connection

    def deadline_passed(self, now: float) -> None:
        self.pool.idle_too_long(self, now)


def _keeps_alive(head: ResponseHead) -> bool:
    tokens = [token.strip() for token in head.marked.get(b"connection", b"").lower().split(b",")]
    return b"close" not in tokens and (not head.http_10 or b"keep-alive" in tokens)
