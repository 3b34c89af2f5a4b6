"""One client connection: reads requests one after the other and hands each to an `Exchange`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from mesh.proxy.downstream.connection import DownstreamConnection
from mesh.proxy.downstream.early_close import EarlyClose
from mesh.proxy.downstream.slow_heads import answer_slow_head, head_limit
from mesh.proxy.http.exchange import Exchange
from mesh.proxy.http.rescue import RequestBroke, RequestTrailersTooLarge
from mesh.proxy.http1.body import BODILESS, LAST_CHUNK, Body, chunk, last_chunk, request_body
from mesh.proxy.http1.errors import HeadTooLargeError, MalformedError, VersionRefusedError
from mesh.proxy.http1.head import Head, RequestHead, ResponseHead
from mesh.proxy.http1.http10 import ends_alone, parse_request_10, status_line_10
from mesh.proxy.http1.parse import parse_request
from mesh.proxy.http1.reply import STATUS_LINES, refusal

if TYPE_CHECKING:
    from mesh.proxy.http.config import HttpConfig
    from mesh.proxy.runtime import Worker
    from mesh.proxy.tls.connection import Peer

_SMALL = 64 * 1024
_RESPONSE = b"%b%b\r\n\r\n%b"
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\n"
_LINE_END = b"\r\n"
_PIPELINE_LIMIT = 64 * 1024
_LAST_REQUEST_S = 0.5


class Downstream(DownstreamConnection):
    """HTTP/1.1 server connection, and the `ResponseEncoder` of its present request: they are served one at a time, so
    responses cannot change order.
    """

    __slots__ = (
        "_awaits_head", "_blocked", "_body", "_buffer", "_chunks", "_early_close", "_is_unread", "_keeps", "_pumping",
        "_requests", "become_http2", "exchange", "is_blocked", "will_close",
    )  # fmt: skip

    def __init__(self, worker: Worker, config: HttpConfig, peer: Peer | None, on_lost: Callable[[Any], None]) -> None:
        DownstreamConnection.__init__(self, worker, config, peer, on_lost)
        # What to do with a connection that begins as HTTP/2; None where that is refused as any other malformed request.
        self.become_http2: Callable[[Downstream, bytes], None] | None = None
        self.exchange: Exchange | None = None
        self.will_close = False
        self._body: Body | None = None
        self._chunks = False  # whether the present response is chunked
        self._buffer = b""
        self._pumping = False
        self._blocked = False
        self.is_blocked = False
        self._requests = 0
        self._early_close: EarlyClose | None = None  # while it is blocked
        self._awaits_head = False  # part of a head is there, and request_headers_timeout runs
        self._keeps: bool | None = None  # of a client that speaks HTTP/1.0: whether it wants to keep the connection
        self._is_unread = False  # the client may still be sending what nobody will read

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        DownstreamConnection.connection_made(self, transport)
        self.config.stats.downstream_cx_http1_total += 1
        self.config.stats.downstream_cx_http1_active += 1

    def step_aside(self) -> None:
        """It was no HTTP/1 after all."""
        self._ended = True
        self.config.stats.downstream_cx_http1_total -= 1
        self.config.stats.downstream_cx_http1_active -= 1

    def lost(self) -> None:
        self._stop_watching()
        stats = self.config.stats
        stats.downstream_cx_http1_active -= 1
        exchange = self.exchange
        if exchange is not None:
            stats.downstream_cx_destroy_active_rq += 1
            stats.downstream_cx_destroy_remote_active_rq += 1
            exchange.downstream_lost()

    def data_received(self, data: bytes) -> None:
        self.config.stats.downstream_cx_rx_bytes_total += len(data)
        if self._ended:
            return
        if self.exchange is not None:
            if self._body is not None:
                self._body_received(data)
            else:
                self._hold(data)
            return
        self._pump(self._buffer + data if self._buffer else data)

    def pause_writing(self) -> None:
        """The client reads slowly: let the upstream wait."""
        self._blocked = True
        self.config.stats.downstream_flow_control_paused_reading_total += 1
        if self.exchange is not None:
            self.exchange.client_blocked()

    def resume_writing(self) -> None:
        self._blocked = False
        self.config.stats.downstream_flow_control_resumed_reading_total += 1
        if self.exchange is not None:
            self.exchange.client_unblocked()
            return
        if self._buffer:
            self._pump(self._buffer)
        if self.exchange is None and not self._blocked:
            self.unblock()

    # Reading

    def _pump(self, data: bytes) -> None:
        """Start the requests in `data`, one after the other, for as long as each is over at once."""
        self._pumping = True
        while data and self.exchange is None and not self._ended and not self._blocked:
            if data[0] in _LINE_END:
                data = data.lstrip(_LINE_END)  # RFC 9112 section 2.2: empty lines before a request are not part of it
                continue
            end = data.find(b"\r\n\r\n")
            if end < 0 and len(data) <= self.config.max_head and not _has_bare_lf(data):
                if not self._awaits_head:
                    self._await_head()
                break
            try:
                if end < 0 and _has_bare_lf(data):
                    raise MalformedError("http1.codec_error")
                if not 0 <= end <= self.config.max_head:
                    raise HeadTooLargeError("http1.headers_too_large")
                data = self._begin(parse_request(data[:end], self.config.max_headers), data[end + 4 :])
            except MalformedError as error:
                if self.become_http2 is not None and data.startswith(_HTTP2):
                    self.become_http2(self, data)
                    return
                if type(error) is VersionRefusedError and self.config.accepts_http_10 and end > 0:
                    data = self._begin_http_10(data[:end], data[end + 4 :])
                    continue
                self._refuse(error)
                data = b""
        self._pumping = False
        self._buffer = data
        if len(data) > _PIPELINE_LIMIT and (self.exchange is not None or self._blocked):
            self.block()

    def _begin(self, head: RequestHead, rest: bytes) -> bytes:
        """Start one request with what came of its body; answers what came after it."""
        config = self.config
        marked = head.marked
        body: Body | None = None
        if b"content-length" in marked or b"transfer-encoding" in marked or b"upgrade" in marked:
            body = request_body(head, config.max_head, config.max_trailers)
        payload = b""
        done = body is None
        trailers: Sequence[bytes] = ()
        if body is not None:
            if rest:
                payload = body.take(rest)
                rest = body.rest
                done = body.done
            if done:
                trailers = body.trailers
            else:
                self._body = body
        stats = config.stats
        stats.downstream_rq_total += 1
        stats.downstream_rq_active += 1
        self._buffer = b""
        if self._awaits_head:
            self._awaits_head = False
            self.worker.deadlines.discard(self)
        if config.max_requests:
            self._requests += 1
            if self._requests == config.max_requests:
                stats.downstream_cx_max_requests_reached += 1
                self.will_close = True
        self.become_http2 = None
        exchange = self.exchange = Exchange(self, head, payload, done and not trailers, body is not None)
        exchange.start()
        if trailers and self.exchange is exchange:
            exchange.request_trailers(Head(list(trailers), {}))
        return rest

    def _await_head(self) -> None:
        limit = head_limit(self.config)
        if limit < inf:
            self._awaits_head = True
            self.deadline = self.worker.loop.time() + limit
            self.worker.deadlines.add(self)

    def _begin_http_10(self, block: bytes, rest: bytes) -> bytes:
        """A request of HTTP/1.0, whose client must ask to keep the connection."""
        try:
            head = parse_request_10(block, self.config.max_headers, self.config.http_10_host)
            self._keeps = b"keep-alive" in head.marked.get(b"connection", b"").lower()
            self.will_close = True
            return self._begin(head, rest)
        except MalformedError as error:
            self._keeps = False
            self._refuse(error)
            return b""

    def _body_received(self, data: bytes) -> None:
        exchange, body = self.exchange, self._body
        assert exchange is not None
        assert body is not None
        try:
            payload = body.take(data)
        except MalformedError as error:
            self.config.stats.downstream_cx_protocol_error += 1
            self._body = None
            self.will_close = self._is_unread = True
            too_large = isinstance(error, HeadTooLargeError)
            exchange.fail((RequestTrailersTooLarge if too_large else RequestBroke)(error.details))
            return
        done = body.done
        if done:
            self._body = None
            if body.rest:
                self._hold(body.rest)
        if not done or not body.trailers:
            if payload or done:  # what only frames the body is no progress to wait for
                exchange.request_payload(payload, done)
            return
        if payload:
            exchange.request_payload(payload, False)
        if self.exchange is exchange:
            exchange.request_trailers(Head(list(body.trailers), {}))

    def _hold(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > _PIPELINE_LIMIT:
            self.block()

    def _refuse(self, error: MalformedError) -> None:
        """Answer what is no request."""
        self.config.stats.downstream_cx_protocol_error += 1
        body, flag = refusal(error)
        self._begin_headless().reply(error.status, body, flag, error.details)

    def _begin_headless(self) -> Exchange:
        """An exchange for what is no request, so that it is counted and logged like any other."""
        stats = self.config.stats
        stats.downstream_rq_total += 1
        stats.downstream_rq_active += 1
        self.will_close = self._is_unread = True
        exchange = self.exchange = Exchange(self, RequestHead(b"", b"", b"", [], {}), b"", True, False)
        return exchange

    # For the exchange: see `codec.ResponseEncoder`

    @property
    def protocol(self) -> str:
        return "HTTP/1.1" if self._keeps is None else "HTTP/1.0"

    def reject(self, details: str) -> bool:
        return False

    def send_informational(self, head: ResponseHead) -> None:
        self._write(b"\r\n".join((STATUS_LINES[head.status][:-2], *head.lines, b"", b"")))

    def send_head(self, head: ResponseHead, payload: bytes, done: bool) -> None:
        exchange = self.exchange
        assert exchange is not None
        lines = head.lines
        if self.will_close or self._body is not None or self.is_draining:
            if self.is_draining:
                self.config.stats.downstream_cx_drain_close += 1
            if exchange.is_tunnel:
                self._write(_RESPONSE % (STATUS_LINES[head.status], b"\r\n".join(lines), payload))
                return
            if self._keeps is not None:
                self._send_http_10(head, payload)
                return
            self.will_close = True  # the rest of a request that is answered already is not waited for
            lines.append(b"connection: close")
        if b"content-length" in head.marked:
            self._chunks = False
        else:
            payload = self._frame(head, payload, done, exchange.method == b"HEAD")
        if self.config.header_case is not None:
            lines = self.config.header_case(head.lines)
        if len(payload) < _SMALL:
            wire = _RESPONSE % (STATUS_LINES[head.status], b"\r\n".join(lines), payload)
            self.config.stats.downstream_cx_tx_bytes_total += len(wire)
            self.transport.write(wire)
        else:
            self._write(_RESPONSE % (STATUS_LINES[head.status], b"\r\n".join(lines), b""))
            self._write(payload)

    def _write(self, wire: bytes) -> None:
        self.config.stats.downstream_cx_tx_bytes_total += len(wire)
        self.transport.write(wire)

    def _send_http_10(self, head: ResponseHead, payload: bytes) -> None:
        """To a client that knows no chunks: a body of unknown size ends with the connection."""
        self._chunks = False
        keeps = bool(self._keeps) and ends_alone(head) and self._body is None and not self.is_draining
        self.will_close = not keeps
        head.lines.append(b"connection: keep-alive" if keeps else b"connection: close")
        lines = head.lines if self.config.header_case is None else self.config.header_case(head.lines)
        self._write(_RESPONSE % (status_line_10(head.status), b"\r\n".join(lines), payload))

    def _frame(self, head: ResponseHead, payload: bytes, done: bool, is_to_head: bool) -> bytes:
        """Say how a body of unknown size ends (RFC 9112 section 6.3), and put its first piece so."""
        self._chunks = False
        if head.status in BODILESS or head.status < 200:
            return payload
        if done and not payload and not is_to_head:
            head.lines.append(b"content-length: 0")
            return payload
        head.lines.append(b"transfer-encoding: chunked")
        if is_to_head:
            return payload
        self._chunks = True
        payload = chunk(payload) if payload else b""
        return payload + LAST_CHUNK if done else payload

    def send_payload(self, payload: bytes, done: bool) -> None:
        if self._chunks:
            payload = chunk(payload) if payload else b""
            if done:
                payload += LAST_CHUNK
        if payload:
            self._write(payload)

    def send_trailers(self, trailers: Head) -> None:
        if self._chunks and self.config.max_trailers:
            self._write(last_chunk(trailers))
        else:
            self.send_payload(b"", True)

    def exchange_over(self, reset: bool) -> None:
        """The exchange has said everything; `reset` if the response broke off."""
        exchange, self.exchange = self.exchange, None
        if self._ended:
            return
        if self._is_unread or self._body is not None:
            self._linger()
        elif reset or self.will_close:
            self._finish()
        else:
            if self.is_blocked:
                self.unblock()
            if exchange is not None:
                self.deadline = exchange.started + exchange.elapsed + self.config.idle_timeout  # from now on
            if self._buffer and not self._pumping:
                self._pump(self._buffer)

    def block(self) -> None:
        """Read no more from the client for now."""
        if not self.is_blocked and not self.transport.is_closing():
            self.is_blocked = True
            self.transport.pause_reading()
            self._early_close = EarlyClose(self.transport, self.worker.loop.time(), self.transport.abort)
            self.worker.idle_deadlines.add(self._early_close)

    def unblock(self) -> None:
        if self.is_blocked and not self.transport.is_closing():
            self.is_blocked = False
            self.transport.resume_reading()
            self._stop_watching()

    def _stop_watching(self) -> None:
        if self._early_close is not None:
            self.worker.idle_deadlines.discard(self._early_close)
            self._early_close = None

    def drain(self, idle_s: float) -> None:
        """Close with the present or next response; if none comes, after `idle_s` seconds, or half a one for 0.

        To close an idle connection at once is to race with a request that its client has just sent.
        """
        self.will_close = True
        if self.exchange is not None or self._ended:
            return
        self.deadline = self.worker.loop.time() + (idle_s or _LAST_REQUEST_S)
        self.worker.idle_deadlines.add(self)

    def _linger(self) -> None:
        self.unblock()
        DownstreamConnection._linger(self)

    def _idled(self, now: float) -> None:
        if self._awaits_head:
            self.worker.deadlines.discard(self)
            answer_slow_head(self._begin_headless())
            return
        if self.exchange is not None:
            self.deadline = now + self.config.idle_timeout
            return
        self.config.stats.downstream_cx_idle_timeout += 1
        self.worker.idle_deadlines.discard(self)
        self._finish()


def _has_bare_lf(data: bytes) -> bool:
    return data.count(b"\n") != data.count(b"\r\n")
