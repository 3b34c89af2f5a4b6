"""One HTTP/1.1 connection to a host: sends one request at a time, reads its response, and says whether it may be used
again.
"""

from __future__ import annotations

import asyncio
from types import NoneType
from typing import TYPE_CHECKING, cast

from mesh.proxy.downstream.connection_info import text_of
from mesh.proxy.http.rescue import UpstreamBroke, UpstreamClosed
from mesh.proxy.http1.body import (
    LAST_CHUNK,
    Body,
    Chunked,
    Tunnel,
    UntilClose,
    chunk,
    is_whole,
    last_chunk,
    response_body,
)
from mesh.proxy.http1.errors import MalformedError
from mesh.proxy.http1.head import Head, RequestHead, ResponseHead
from mesh.proxy.http1.parse import MAX_HEAD, parse_response
from mesh.proxy.http1.upgrade import CONNECT, is_agreement, is_upgrade

if TYPE_CHECKING:
    from mesh.proxy.http.codec import Requester
    from mesh.proxy.tls.connection import Peer
    from mesh.proxy.upstream.http1_pool import Pool

_REQUEST = b"%b %b HTTP/1.1\r\n%b\r\n\r\n"
_EMPTY_REQUEST = b"%b %b HTTP/1.1\r\n%b\r\ncontent-length: 0\r\n\r\n"
_CHUNKED_REQUEST = b"%b %b HTTP/1.1\r\n%b\r\ntransfer-encoding: chunked\r\n\r\n"
# Methods whose requests have no body unless they say so; for the others Envoy says content-length: 0.
_BODILESS = frozenset((b"GET", b"HEAD", b"DELETE", b"TRACE", b"CONNECT"))


class Upstream(asyncio.Protocol):
    """HTTP/1.1 client connection, and the `RequestEncoder` of its present request. It goes back to its pool only when a
    message ended cleanly on both sides.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_chunks",
        "_request_done",
        "_reusable",
        "_upgrades",
        "caller",
        "closed_here",
        "connected_at",
        "deadline",
        "local_address",
        "peer",
        "pool",
        "requests",
        "transport",
        "was_cut",
    )  # fmt: skip

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport = None  # type: ignore[assignment] # until connection_made
        self.caller: Requester | None = None
        self.peer: Peer | None = None
        self.requests = 0
        self.closed_here = False
        self.was_cut = False
        self.connected_at = 0.0
        self.deadline = 0.0
        self.local_address = ""
        self._buffer = b""
        self._body: Body | None = None
        self._chunks = False  # whether the present request is chunked
        self._request_done = False
        self._upgrades = b""  # the protocol that the present request asks for
        self._reusable = True

    # For the exchange: see `codec.RequestEncoder`

    @property
    def protocol(self) -> str:
        return "HTTP/1.1"

    def send_request(self, head: RequestHead, pieces: list[bytes] | None, done: bool) -> None:
        self._request_done = done
        self._upgrades = b""
        if pieces is None:
            form = _REQUEST if head.method in _BODILESS or b"content-length" in head.marked else _EMPTY_REQUEST
            wire = form % (head.method, head.target, b"\r\n".join(head.lines))
            self.pool.stats.upstream_cx_tx_bytes_total += len(wire)
            self.transport.write(wire)
            return
        if b"upgrade" in head.marked:
            self._upgrades = head.marked[b"upgrade"].lower() if is_upgrade(head) else b""
        chunks = self._chunks = b"content-length" not in head.marked and not self._upgrades
        wire = (_CHUNKED_REQUEST if chunks else _REQUEST) % (head.method, head.target, b"\r\n".join(head.lines))
        if chunks:
            pieces = [chunk(piece) for piece in pieces]
            if done:
                pieces.append(LAST_CHUNK)
        self._write(b"".join((wire, *pieces)))

    def _write(self, wire: bytes) -> None:
        self.pool.stats.upstream_cx_tx_bytes_total += len(wire)
        self.transport.write(wire)

    def send_payload(self, payload: bytes, done: bool) -> None:
        self._request_done = done
        if self._chunks:
            payload = chunk(payload) if payload else b""
            if done:
                payload += LAST_CHUNK
        if payload:
            self._write(payload)

    def send_trailers(self, trailers: Head) -> None:
        if self._chunks and self.pool.cluster.config.http.max_trailers:
            self._request_done = True
            self._write(last_chunk(trailers))
        else:
            self.send_payload(b"", True)

    def block(self) -> None:
        self.transport.pause_reading()

    def unblock(self) -> None:
        self.transport.resume_reading()

    def abandon(self) -> None:
        """The caller wants no more of the response: the connection cannot be used again."""
        self.caller = None
        self.was_cut = True
        self.pool.ended()
        self.close()

    # For the pool

    def close(self) -> None:
        self._reusable = False
        self.closed_here = True
        if self.transport is not None:
            self.transport.abort()

    def retire(self) -> None:
        """Send no further request."""
        self._reusable = False

    def is_open(self) -> bool:
        return self._reusable and not self.transport.is_closing()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        local = transport.get_extra_info("sockname")
        self.local_address = text_of((local[0], local[1]))
        self.peer = transport.get_extra_info("peer")
        self.pool.connected(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._reusable = False
        caller, self.caller = self.caller, None
        self.pool.lost(self, had_caller=caller is not None)
        if caller is None:
            return
        if type(self._body) is UntilClose and exc is None:
            caller.payload_received(b"", True)
        elif self._buffer or type(self._body) not in (NoneType, Tunnel, UntilClose):
            self.pool.stats.upstream_cx_protocol_error += 1
            caller.upstream_failed(UpstreamBroke())  # it ended in the middle of a message
        else:
            caller.upstream_failed(UpstreamClosed())

    def data_received(self, data: bytes) -> None:
        self.pool.stats.upstream_cx_rx_bytes_total += len(data)
        caller = self.caller
        if caller is None:
            self.pool.stats.upstream_cx_protocol_error += 1
            self.close()  # bytes that no request asked for; they must never reach the next one
            return
        body = self._body
        try:
            if body is not None:
                payload = body.take(data)
                done = body.done
                if done and body.trailers:
                    if payload:
                        caller.payload_received(payload, False)
                    self._end(caller, body)
                    return
                if done:
                    self._finish(body.rest)
                if payload or done:  # what only frames the body is no progress to wait for
                    caller.payload_received(payload, done)
                return
            self._head_received(caller, self._buffer + data if self._buffer else data)
        except MalformedError as error:
            self.pool.stats.upstream_cx_protocol_error += 1
            if self.caller is None:
                return  # the head was enough for the caller to let go
            self.abandon()
            caller.upstream_failed(UpstreamBroke(error.details))

    def _head_received(self, caller: Requester, data: bytes) -> None:
        self._buffer = b""
        head, rest = None, data
        while head is None or (head.status < 200 and head.status != 101):
            end = rest.find(b"\r\n\r\n")
            if end < 0:
                if len(rest) > MAX_HEAD:
                    raise MalformedError("http1.headers_too_large")
                self._buffer = rest
                return
            head, rest = parse_response(rest[:end]), rest[end + 4 :]
            if head.status < 200 and head.status != 101:
                response_body(head, caller.method)
                caller.informational_received(head)
        if rest and not self._upgrades and is_whole(head, caller.method, rest):
            if (head.http_10 or b"connection" in head.marked) and not _keeps_alive(head):
                self._close_announced()
            self._finish(b"")
            caller.response_received(head, rest, True)
            return
        body = response_body(head, caller.method, self.pool.cluster.config.http.max_trailers)
        marked = head.marked
        if head.status == 204 and b"content-length" in marked:
            head.remove((b"content-length",))
        if head.status == 101 or self._upgrades == CONNECT:
            self._reusable = False
            if self._opens_tunnel(head):
                self._body = Tunnel()
                caller.response_received(head, rest, False)
                return
        if (head.http_10 or b"connection" in marked) and not _keeps_alive(head):
            self._close_announced()
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
        if done and type(body) is Chunked and (body.trailers or not payload):
            caller.response_received(head, payload, False)  # there is a body, though an empty one
            self._end(caller, body)
            return
        if done:
            self._finish(rest)
        caller.response_received(head, payload, done)

    def _close_announced(self) -> None:
        """The host says that this response is the connection's last."""
        self._reusable = False
        self.pool.stats.upstream_cx_close_notify += 1

    def _opens_tunnel(self, head: ResponseHead) -> bool:
        asked = self._upgrades
        return bool(asked) and is_agreement(asked, head.status) and (asked == CONNECT or is_upgrade(head))

    def _end(self, caller: Requester, body: Body) -> None:
        """The response ends, and has said its payload; the caller may have had enough of it already."""
        if self.caller is not caller:
            return
        self._finish(body.rest)
        if body.trailers:
            caller.trailers_received(Head(list(body.trailers), {}))
        else:
            caller.payload_received(b"", True)

    def _finish(self, rest: bytes) -> None:
        """The response is complete; `rest` is what came after it and must be nothing."""
        self.caller = None
        self._body = None
        if rest or not self._request_done:
            self._reusable = False
            self.was_cut = not self._request_done
            self.pool.stats.upstream_cx_protocol_error += bool(rest)
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
