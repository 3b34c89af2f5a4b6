"""An HTTP/2 connection of a client: many streams, each with an exchange of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from mesh.proxy.downstream.connection import DownstreamConnection
from mesh.proxy.downstream.http2_stream import Http2Stream
from mesh.proxy.downstream.slow_heads import head_limit
from mesh.proxy.http.rescue import RESCUE, DownstreamClosed
from mesh.proxy.http2 import errors
from mesh.proxy.http2.errors import ConnectionBroke
from mesh.proxy.http2.server import ServerConnection
from mesh.proxy.upstream.keepalive import Keepalive

if TYPE_CHECKING:
    from mesh.proxy.downstream.http1 import Downstream
    from mesh.proxy.http.config import HttpConfig
    from mesh.proxy.http.exchange import Exchange
    from mesh.proxy.runtime import Worker
    from mesh.proxy.tls.connection import Peer

_YOUNG_RESETS = 500  # Envoy's premature_reset_total_stream_count


class AwaitedHead:
    """A request's head that has begun and is not complete, and until when it must be."""

    __slots__ = ("_connection", "deadline", "number")

    def __init__(self, connection: Http2Downstream, number: int, deadline: float) -> None:
        self._connection = connection
        self.number = number
        self.deadline = deadline

    def deadline_passed(self, now: float) -> None:
        self._connection.head_timed_out(self.number)


class Http2Downstream(DownstreamConnection):
    """Holds the codec and its output: what a turn of the loop says on all streams leaves in one write.

    It drains in Envoy's two steps: first a GOAWAY that asks for no new streams, and drain_timeout later one that serves
    no more of them; then it closes with its last stream.
    """

    __slots__ = (
        "_awaited", "_begun", "_error", "_is_announced", "_is_leaving", "_is_uncounted", "_keepalive", "_requests",
        "_young_resets", "codec", "is_write_blocked",
    )  # fmt: skip

    def __init__(self, worker: Worker, config: HttpConfig, peer: Peer | None, on_lost: Callable[[Any], None]) -> None:
        DownstreamConnection.__init__(self, worker, config, peer, on_lost)
        self.codec: ServerConnection[Http2Stream] = ServerConnection(self, config.http2, config.http2_stats)
        self.is_write_blocked = False
        self._error = False
        self._is_announced = False  # the first GOAWAY is out
        self._is_uncounted = False  # it is out, and the response that would have brought it is still to come
        self._is_leaving = False  # the second is
        self._keepalive: Keepalive | None = None
        self._requests = 0  # that are over
        self._begun = 0
        self._awaited: AwaitedHead | None = None
        self._young_resets = 0

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        DownstreamConnection.connection_made(self, transport)
        self._start()

    def continue_from(self, before: Downstream, data: bytes) -> None:
        """Take over a connection whose first bytes, `data`, turned out to be HTTP/2."""
        before.step_aside()
        self.take_over(before)
        self._start()
        self._receive(data)

    def _start(self) -> None:
        """Our SETTINGS wait for the client's first bytes, which are not long in coming."""
        config = self.config
        config.stats.downstream_cx_http2_total += 1
        config.stats.downstream_cx_http2_active += 1
        if config.keepalive is not None:
            self._keepalive = Keepalive(self.worker.deadlines, config.keepalive, self._ping, self._ping_unanswered)

    def lost(self) -> None:
        stats = self.config.stats
        stats.downstream_cx_http2_active -= 1
        if self._keepalive is not None:
            self._keepalive.stop()
        self._forget_head()
        streams = self.codec.let_go()
        if streams:
            stats.downstream_cx_destroy_active_rq += 1
            stats.downstream_cx_destroy_remote_active_rq += 1
        self._lose(streams, "DC", RESCUE[DownstreamClosed].details)

    def data_received(self, data: bytes) -> None:
        self.config.stats.downstream_cx_rx_bytes_total += len(data)
        if not self._ended:
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        codec = self.codec
        codec.receive(data)
        if codec.is_unfinished or self._awaited is not None:
            self._watch_head()
        self.flush()

    def pause_writing(self) -> None:
        """The client reads slowly: let the upstreams wait."""
        self.is_write_blocked = True
        self.codec.count_from_here()
        self.config.stats.downstream_flow_control_paused_reading_total += 1
        for exchange in self._exchanges():
            exchange.client_blocked()

    def resume_writing(self) -> None:
        self.is_write_blocked = False
        self.config.stats.downstream_flow_control_resumed_reading_total += 1
        for stream in list(self.codec.streams.values()):
            if stream.exchange is not None and not stream.is_stopped:
                stream.exchange.client_unblocked()

    # Told by the codec: see `http2.sending.Owner`

    def new_stream(self) -> Http2Stream:
        most = self.config.max_requests
        if most:
            self._begun += 1
            if self._begun == most:
                self.config.stats.downstream_cx_max_requests_reached += 1
                self._announce_drain()
        return Http2Stream(self)

    def output_pending(self) -> None:
        self.worker.loop.call_soon(self.flush)

    def is_drained(self) -> bool:
        return not self.is_write_blocked

    def settings_received(self) -> None:
        """Nothing depends on them here; the codec keeps to them."""

    def goaway_received(self, last: int, code: int) -> None:
        """Its streams go on, and it will close the connection itself."""

    def ping_acknowledged(self, opaque: bytes) -> None:
        if self._keepalive is not None:
            self._keepalive.answered()

    def connection_broke(self, error: ConnectionBroke) -> None:
        self._error = True
        if error.code != errors.ENHANCE_YOUR_CALM:  # floods have counters of their own
            self.config.stats.downstream_cx_protocol_error += 1
        details = error.details if error.details.startswith("http2.") else f"codec_error:{error.details}"
        self._lose(self.codec.let_go(), "DPE", details.replace(" ", "_"))

    # Heads that take their time

    def _watch_head(self) -> None:
        number, awaited = self.codec.unfinished_head(), self._awaited
        if awaited is not None and awaited.number == number:
            return
        self._forget_head()
        limit = head_limit(self.config)
        if number and limit < inf:
            self._awaited = AwaitedHead(self, number, self.worker.loop.time() + limit)
            self.worker.deadlines.add(self._awaited)

    def _forget_head(self) -> None:
        if self._awaited is not None:
            self.worker.deadlines.discard(self._awaited)
            self._awaited = None

    def head_timed_out(self, number: int) -> None:
        """The head of this stream was not complete in time."""
        self._forget_head()
        if not self._ended and self.codec.unfinished_head() == number:
            self.codec.give_up_head(number).head_timed_out()

    # For its streams

    def flush(self) -> None:
        """Write what the codec has to say, and end if that was the last."""
        wire = self.codec.take()
        if self._ended:
            return
        if wire:
            self.config.stats.downstream_cx_tx_bytes_total += len(wire)
            self.transport.write(wire)
        if self._error:
            self._linger()
        elif self._is_leaving and not self.codec.streams:
            self._finish()

    def stream_over(self) -> None:
        """An exchange of this connection is over."""
        self._requests += 1
        if not self._is_announced:
            self.deadline = self.worker.loop.time() + self.config.idle_timeout
        elif self._is_leaving and not self._ended and not self.codec.streams:
            self.output_pending()

    def count_young_reset(self) -> None:
        """A stream was reset soon after it began. Who does little else is closed: Envoy's answer to rapid resets."""
        self._young_resets += 1
        if 2 * self._young_resets >= max(self._requests, _YOUNG_RESETS) and not self._error:
            self.config.stats.downstream_rq_too_many_premature_resets += 1
            self.codec.close(errors.ENHANCE_YOUR_CALM, "http2.too_many_premature_resets")

    # The end

    def drain(self, idle_s: float) -> None:
        """Serve what has come and end; new streams are still served for a while, unless `idle_s` is 0."""
        if self._ended or self._is_leaving:
            return
        if idle_s:
            self._is_uncounted = self.is_draining and not self._is_announced
            self._announce_drain()
        else:
            self._leave()

    def drain_with_response(self) -> None:
        """A response is about to be sent while its listener drains."""
        if not self._ended and (self._is_uncounted or not self._is_announced):
            self._is_uncounted = False
            self.config.stats.downstream_cx_drain_close += 1
            self._announce_drain()

    def _announce_drain(self) -> None:
        if self._is_announced:
            return
        self._is_announced = True
        self.codec.announce_drain()
        self.deadline = self.worker.loop.time() + self.config.drain_timeout
        self.worker.idle_deadlines.add(self)

    def _leave(self) -> None:
        self._is_announced = self._is_leaving = True
        self.deadline = inf
        self.codec.finish_drain()
        self.flush()

    def _idled(self, now: float) -> None:
        if self._is_announced:
            self._leave()
        elif self.codec.streams:
            self.deadline = now + self.config.idle_timeout
        else:
            self.config.stats.downstream_cx_idle_timeout += 1
            self._announce_drain()

    def _ping(self, opaque: bytes) -> None:
        self.codec.send_ping(opaque)

    def _ping_unanswered(self) -> None:
        self.config.http2_stats.keepalive_timeout += 1
        self._ended = True
        self.transport.abort()

    def _exchanges(self) -> list[Exchange]:
        return [stream.exchange for stream in self.codec.streams.values() if stream.exchange is not None]

    @staticmethod
    def _lose(streams: list[Http2Stream], flag: str, details: str) -> None:
        for stream in streams:
            stream.lost(flag, details)
