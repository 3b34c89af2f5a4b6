"""CONNECT that ends here (`connect_config`): the bytes of one stream, on a TCP connection of its own to a host."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, cast

from mesh.proxy.downstream.connection_info import text_of
from mesh.proxy.http.rescue import UpstreamClosed
from mesh.proxy.http1.head import Head, RequestHead, ResponseHead
from mesh.proxy.upstream.connection_pool import ConnectionPool

if TYPE_CHECKING:
    from mesh.proxy.http.codec import Requester
    from mesh.proxy.tls.connection import Peer
    from mesh.proxy.upstream.cluster import Cluster
    from mesh.proxy.upstream.host import Host


class ConnectPool(ConnectionPool["ConnectTunnel"]):
    """A connection for each request; none is used again."""

    def __init__(self, cluster: Cluster, host: Host) -> None:
        ConnectionPool.__init__(self, cluster, host)

    def request(self, caller: Requester) -> None:
        self._wait(caller)

    def close(self) -> None:
        """No connection is ever idle."""

    def over(self, tunnel: ConnectTunnel, had_caller: bool) -> None:
        """The connection is closed; `had_caller` if that cut its stream short."""
        if had_caller:
            self.ended()
        self._forget(tunnel, had_caller)

    def _new(self) -> ConnectTunnel:
        return ConnectTunnel(self)

    def _dial(self, upstream: ConnectTunnel) -> asyncio.Protocol:
        return upstream

    def _retire(self, upstream: ConnectTunnel) -> None:
        """It carries one stream, and ends with that."""

    def _offer(self, upstream: ConnectTunnel) -> None:
        caller = self._next_waiting()
        if caller is None:
            upstream.close()
            return
        self.host.active += 1
        self.host.rq_total += 1
        self.stats.upstream_rq_total += 1
        self.stats.upstream_rq_active += 1
        upstream.requests = 1
        upstream.caller = caller
        caller.upstream_ready(upstream)


class ConnectTunnel(asyncio.Protocol):
    """The `RequestEncoder` of a CONNECT whose payload is the connection's bytes; it answers 200 itself."""

    __slots__ = (
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
    )

    def __init__(self, pool: ConnectPool) -> None:
        self.pool = pool
        self.caller: Requester | None = None
        self.transport: asyncio.Transport = None  # type: ignore[assignment] # until connection_made
        self.deadline = inf
        self.connected_at = 0.0
        self.requests = 0
        self.closed_here = False
        self.was_cut = False
        self.local_address = ""
        self.peer: Peer | None = None

    # For the exchange: see `codec.RequestEncoder`

    @property
    def protocol(self) -> str:
        return "-"

    def send_request(self, head: RequestHead, pieces: list[bytes] | None, done: bool) -> None:
        caller = self.caller
        assert caller is not None
        caller.response_received(ResponseHead(200, b"", False, [], {}), b"", False)
        if self.caller is caller and (pieces or done):
            self.send_payload(b"".join(pieces or ()), done)

    def send_payload(self, payload: bytes, done: bool) -> None:
        if payload:
            self.transport.write(payload)
        if done and self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    def send_trailers(self, trailers: Head) -> None:
        self.send_payload(b"", True)

    def abandon(self) -> None:
        self.caller = None
        self.was_cut = True
        self.pool.ended()
        self.close()

    def block(self) -> None:
        self.transport.pause_reading()

    def unblock(self) -> None:
        self.transport.resume_reading()

    # For the pool

    def close(self) -> None:
        self.closed_here = True
        if self.transport is not None:
            self.transport.abort()

    def deadline_passed(self, now: float) -> None:
        """The stream's idle timeout holds, not the connection's."""
        self.pool.cluster.idle_deadlines.discard(self)

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        local = transport.get_extra_info("sockname")
        self.local_address = text_of((local[0], local[1]))
        self.peer = transport.get_extra_info("peer")
        self.pool.connected(self)

    def data_received(self, data: bytes) -> None:
        if self.caller is not None:
            self.caller.payload_received(data, False)

    def eof_received(self) -> bool:
        """The host says no more, and with it the response ends."""
        caller, self.caller = self.caller, None
        if caller is not None:
            self.pool.ended()
            caller.payload_received(b"", True)
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        caller, self.caller = self.caller, None
        self.pool.over(self, caller is not None)
        if caller is not None:
            caller.upstream_failed(UpstreamClosed())

    def pause_writing(self) -> None:
        if self.caller is not None:
            self.caller.upstream_blocked()

    def resume_writing(self) -> None:
        if self.caller is not None:
            self.caller.upstream_unblocked()
