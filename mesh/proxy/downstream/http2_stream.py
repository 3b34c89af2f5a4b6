"""The client's side of one HTTP/2 stream: between its exchange and the codec."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mesh.proxy.downstream.slow_heads import answer_slow_head
from mesh.proxy.http.exchange import Exchange
from mesh.proxy.http1.head import Head, RequestHead, ResponseHead
from mesh.proxy.http2 import errors
from mesh.proxy.http2.heads import TOO_LARGE, TOO_MANY
from mesh.proxy.http2.stream import ServerStream

if TYPE_CHECKING:
    from mesh.proxy.downstream.connection_info import ConnectionInfo
    from mesh.proxy.downstream.http2 import Http2Downstream
    from mesh.proxy.tls.connection import Peer

_STATUS = {status: b":status: %d" % status for status in range(100, 600)}
_STATUS[101] = _STATUS[200]  # an extended CONNECT is agreed to like any other (RFC 8441 section 5)
_REMOTE_RESET = "http2.remote_reset"
# Of these Envoy says that it has reset the stream, of other malformed messages that the client broke the protocol.
_LIMITS = frozenset((TOO_LARGE, TOO_MANY))
_YOUNG_S = 2.0  # Envoy's premature_reset_min_stream_lifetime_seconds, which counts whole seconds: up to and with 1


class Http2Stream(ServerStream):
    """A request of a client, and the `codec.ResponseEncoder` of its exchange."""

    __slots__ = ("config", "connection", "deadline", "exchange", "forwarded_proto", "will_close", "worker")

    def __init__(self, connection: Http2Downstream) -> None:
        ServerStream.__init__(self)
        self.connection = connection
        self.config = connection.config
        self.worker = connection.worker
        self.forwarded_proto = connection.forwarded_proto
        self.will_close = False  # a stream cannot ask for it
        self.exchange: Exchange | None = None

    # Told by the codec

    def head_received(self, head: RequestHead, done: bool) -> None:
        self._begin(head, done).start()

    def _begin(self, head: RequestHead, done: bool) -> Exchange:
        stats = self.config.stats
        stats.downstream_rq_total += 1
        stats.downstream_rq_http2_total += 1
        stats.downstream_rq_active += 1
        exchange = self.exchange = Exchange(self, head, b"", done, not done)
        return exchange

    def head_refused(self, head: RequestHead, status: int, details: str) -> None:
        self._begin(head, True).reply(status, b"", "", details)

    def head_timed_out(self) -> None:
        """The client took too long for the request's head."""
        answer_slow_head(self._begin(RequestHead(b"", b"", b"", [], {}), True))

    def payload_received(self, payload: bytes, done: bool) -> None:
        if self.exchange is not None:
            self.exchange.request_payload(payload, done)

    def trailers_received(self, trailers: Head) -> None:
        if self.exchange is not None:
            self.exchange.request_trailers(trailers)

    def reset_received(self, code: int) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        is_young = not exchange.status and time.monotonic() - exchange.started < _YOUNG_S
        exchange.downstream_lost("DR", _REMOTE_RESET)
        if is_young:
            self.connection.count_young_reset()

    def broke(self, details: str) -> None:
        exchange = self.exchange or self._begin(RequestHead(b"", b"", b"", [], {}), True)
        exchange.downstream_lost("DR" if details in _LIMITS else "DPE", details)

    def write_blocked(self) -> None:
        self.config.stats.downstream_flow_control_paused_reading_total += 1
        if self.exchange is not None:
            self.exchange.client_blocked()

    def write_unblocked(self) -> None:
        self.config.stats.downstream_flow_control_resumed_reading_total += 1
        if self.exchange is not None and not self.connection.is_write_blocked:
            self.exchange.client_unblocked()

    def lost(self, flag: str, details: str) -> None:
        """The connection is gone, and the stream with it."""
        if self.exchange is not None:
            self.exchange.downstream_lost(flag, details)

    # For the exchange: see `codec.ResponseEncoder`

    @property
    def protocol(self) -> str:
        return "HTTP/2"

    @property
    def connection_id(self) -> int:
        return self.connection.connection_id

    @property
    def peer(self) -> Peer | None:
        return self.connection.peer

    @property
    def scheme(self) -> bytes:
        return self.connection.scheme

    @property
    def info(self) -> ConnectionInfo | None:
        return self.connection.info

    @property
    def remote_address(self) -> str:
        return self.connection.remote_address

    @property
    def remote_ip(self) -> bytes:
        return self.connection.remote_ip

    @property
    def local_address(self) -> str:
        return self.connection.local_address

    @property
    def is_blocked(self) -> bool:
        return self.is_paused

    def reject(self, details: str) -> bool:
        self.connection.codec.reset(self, errors.INTERNAL_ERROR)
        if self.exchange is not None:
            self.exchange.downstream_lost("DR", f"http2.{details}")
        return True

    def send_informational(self, head: ResponseHead) -> None:
        self.connection.codec.send_head(self, (_STATUS[head.status], *head.lines), False)

    def send_head(self, head: ResponseHead, payload: bytes, done: bool) -> None:
        codec = self.connection.codec
        if self.connection.is_draining:
            self.connection.drain_with_response()
        lines = [_STATUS[head.status], *head.lines]
        if payload:
            codec.send_head(self, lines, False)
            self.send_payload(payload, done)
        else:
            codec.send_head(self, lines, done)

    def send_payload(self, payload: bytes, done: bool) -> None:
        connection = self.connection
        connection.codec.send_payload(self, payload, done)
        if connection.is_write_blocked and self.exchange is not None:
            self.exchange.client_blocked()

    def send_trailers(self, trailers: Head) -> None:
        self.connection.codec.send_trailers(self, trailers.lines)

    def block(self) -> None:
        self.connection.codec.pause(self)

    def unblock(self) -> None:
        self.connection.codec.resume(self)

    def exchange_over(self, reset: bool) -> None:
        exchange, self.exchange = self.exchange, None
        connection = self.connection
        if reset:
            # Not NO_ERROR, which would be the end of a response that is complete.
            is_tunnel = exchange is not None and (exchange.is_tunnel or exchange.method == b"CONNECT")
            connection.codec.reset(self, errors.CONNECT_ERROR if is_tunnel else errors.INTERNAL_ERROR)
        elif self.waiting is not None and self.config.stream_idle_timeout:
            # What is left of the response leaves as the client gives credit; it has stream_idle_timeout for all of it.
            self.deadline = self.worker.loop.time() + self.config.stream_idle_timeout
            self.worker.idle_deadlines.add(self)
        connection.stream_over()

    def deadline_passed(self, now: float) -> None:
        """The client has not taken what is left of a response whose exchange is over."""
        self.worker.idle_deadlines.discard(self)
        if not self.is_closed:
            self.config.http2_stats.tx_flush_timeout += 1
            self.connection.codec.reset(self, errors.NO_ERROR)
