"""One HTTP/2 connection to a host: carries many requests at once, each as a stream with a caller of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from mesh.proxy.downstream.connection_info import text_of
from mesh.proxy.http.rescue import UpstreamBroke, UpstreamClosed
from mesh.proxy.http2 import errors
from mesh.proxy.http2.client import ClientConnection
from mesh.proxy.http2.errors import ConnectionBroke
from mesh.proxy.http2.options import Http2Options
from mesh.proxy.http2.stats import Http2Stats
from mesh.proxy.upstream.http2_request import Http2Request
from mesh.proxy.upstream.keepalive import Keepalive

if TYPE_CHECKING:
    from mesh.proxy.http.codec import Requester
    from mesh.proxy.tls.connection import Peer
    from mesh.proxy.upstream.http2_pool import Http2Pool


class Http2Upstream(asyncio.Protocol):
    """Holds the codec and does its I/O: what a turn of the loop says on all streams leaves in one write."""

    __slots__ = (
        "_is_ending", "_keepalive", "_unannounced", "closed_here", "codec", "connected_at", "deadline",
        "is_write_blocked", "local_address", "peer", "pool", "requests", "transport", "was_cut",
    )  # fmt: skip

    def __init__(self, pool: Http2Pool, options: Http2Options, stats: Http2Stats) -> None:
        self.pool = pool
        self.codec: ClientConnection[Http2Request] = ClientConnection(self, options, stats)
        self.transport: asyncio.Transport = None  # type: ignore[assignment] # until connection_made
        self.connected_at = 0.0
        self.deadline = 0.0
        self.requests = 0
        self.closed_here = False
        self.was_cut = False
        self.local_address = ""
        self.peer: Peer | None = None
        self.is_write_blocked = False
        self._is_ending = False
        self._keepalive: Keepalive | None = None
        self._unannounced: list[Http2Request] = []  # streams whose head has come, perhaps with payload right behind it

    # For the pool

    def new_stream(self, caller: Requester) -> Http2Request:
        return Http2Request(self, caller)

    def close(self) -> None:
        """Close at once."""
        self._is_ending = self.closed_here = True
        if self.transport is not None:
            self.transport.abort()

    def close_soon(self) -> None:
        """Say goodbye, and close when that is written."""
        if not self._is_ending:
            self._is_ending = self.closed_here = True
            self.codec.send_goaway(errors.NO_ERROR)
            self.flush()

    # For the streams

    def stream_over(self) -> None:
        """A stream has come to its end, by whichever side."""
        self.pool.stream_over(self)

    def announce_later(self, stream: Http2Request) -> None:
        """Its head waits for what else the present read holds, so that both go on in one piece."""
        self._unannounced.append(stream)

    def flush(self) -> None:
        """Write what the codec has to say, and close if that was the last."""
        wire = self.codec.take()
        if self.transport is None or self.transport.is_closing():
            return
        if wire:
            self.pool.stats.upstream_cx_tx_bytes_total += len(wire)
            self.transport.write(wire)
        if self._is_ending:
            self.transport.close()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        local = transport.get_extra_info("sockname")
        self.local_address = text_of((local[0], local[1]))
        self.peer = transport.get_extra_info("peer")
        config = self.pool.cluster.config.http.keepalive
        if config is not None:
            sweep = self.pool.cluster.idle_deadlines
            self._keepalive = Keepalive(sweep, config, self.codec.send_ping, self._ping_unanswered)
        self.pool.connected(self)
        self.flush()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._is_ending = True
        if self._keepalive is not None:
            self._keepalive.stop()
        streams = self.codec.let_go()
        self.pool.lost(self, len(streams))
        self.pool.stats.upstream_rq_pending_failure_eject += len(streams)
        for stream in streams:
            stream.failed(UpstreamClosed())

    def data_received(self, data: bytes) -> None:
        self.pool.stats.upstream_cx_rx_bytes_total += len(data)
        self.codec.receive(data)
        self._announce()
        self.flush()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.is_write_blocked = True
        self.codec.count_from_here()
        for stream in list(self.codec.streams.values()):
            if not stream.is_stopped and stream.caller is not None:
                stream.caller.upstream_blocked()

    def resume_writing(self) -> None:
        self.is_write_blocked = False
        for stream in list(self.codec.streams.values()):
            if not stream.is_stopped and stream.caller is not None:
                stream.caller.upstream_unblocked()

    # Told by the codec: see `http2.sending.Owner`

    def output_pending(self) -> None:
        self.pool.cluster.loop.call_soon(self.flush)

    def is_drained(self) -> bool:
        return not self.is_write_blocked

    def settings_received(self) -> None:
        self.pool.settings_changed(self)

    def ping_acknowledged(self, opaque: bytes) -> None:
        if self._keepalive is not None:
            self._keepalive.answered()

    def goaway_received(self, last: int, code: int) -> None:
        self.pool.leaving(self)

    def connection_broke(self, error: ConnectionBroke) -> None:
        self._is_ending = self.closed_here = True
        stats = self.pool.stats
        stats.upstream_cx_protocol_error += 1
        streams = self.codec.let_go()
        stats.upstream_rq_tx_reset += len(streams)
        self.pool.lost(self, 0)  # each is reset by us before the connection goes
        for stream in streams:
            stream.failed(UpstreamBroke(error.details))

    def _ping_unanswered(self) -> None:
        self.codec.stats.keepalive_timeout += 1
        self.close()

    # Deadline of an idle connection

    def deadline_passed(self, now: float) -> None:
        self.pool.idle_too_long(self, now)

    def _announce(self) -> None:
        if self._unannounced:
            streams, self._unannounced = self._unannounced, []
            for stream in streams:
                stream.announce()
