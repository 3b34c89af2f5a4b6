"""Connections to one host whose protocol ALPN decides (Envoy's `auto_config`), each for itself."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

from mesh.proxy.upstream.connection_pool import ConnectionPool
from mesh.proxy.upstream.http1_pool import Pool
from mesh.proxy.upstream.http2_pool import Http2Pool

if TYPE_CHECKING:
    from mesh.proxy.http.codec import Requester
    from mesh.proxy.upstream.cluster import Cluster
    from mesh.proxy.upstream.host import Host


class Negotiation(asyncio.Protocol):
    """A connection until its handshake is done; then the one of its protocol takes its place."""

    def __init__(self, pool: NegotiatedPool) -> None:
        self.pool = pool
        self.deadline = inf
        self.connected_at = 0.0
        self.requests = 0
        self.closed_here = False
        self.was_cut = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.pool.has_given_up(self):
            return
        peer = transport.get_extra_info("peer")
        connection = self.pool.negotiated(self, peer.alpn if peer is not None else "")
        transport.set_protocol(connection)
        connection.connection_made(transport)

    def close(self) -> None:
        """There is nothing to close yet: whoever connects gives up."""

    def deadline_passed(self, now: float) -> None:
        """It has none."""


class NegotiatedPool(ConnectionPool[Negotiation]):
    """Dials for a pool of each protocol. The three share the queue of those who wait; who comes next asks the pool of
    what was negotiated last.
    """

    __slots__ = ("_http1", "_http2", "_latest")

    def __init__(self, cluster: Cluster, host: Host) -> None:
        ConnectionPool.__init__(self, cluster, host)
        self._http1 = _Http1(self, cluster, host)
        self._http2 = _Http2(self, cluster, host)
        self._latest: Pool | Http2Pool = self._http1
        self._http1.share(self._waiting)
        self._http2.share(self._waiting)

    @property
    def connections(self) -> int:
        return len(self._open) + self._http1.connections + self._http2.connections

    def request(self, caller: Requester) -> None:
        self._latest.request(caller)

    def close(self) -> None:
        self._http1.close()
        self._http2.close()

    def dial(self) -> None:
        """Connect, if more wait than connections are being made for."""
        self._open_if_needed()

    def has_given_up(self, negotiation: Negotiation) -> bool:
        """Whether its time ran out in this turn of the loop: the attempt is about to fail."""
        limit = self._connecting[negotiation]
        return limit is not None and limit.expired()

    def negotiated(self, negotiation: Negotiation, alpn: str) -> asyncio.Protocol:
        """The connection that takes the place of a negotiation."""
        self._latest = self._http2 if alpn == "h2" else self._http1
        self._open.discard(negotiation)
        return self._latest.adopt(negotiation.connected_at, self._connecting.pop(negotiation))

    def _new(self) -> Negotiation:
        return Negotiation(self)

    def _dial(self, upstream: Negotiation) -> asyncio.Protocol:
        return upstream

    def _has_connection(self) -> bool:
        return self.connections > 0


class _Http1(Pool):
    __slots__ = ("_outer",)

    def __init__(self, outer: NegotiatedPool, cluster: Cluster, host: Host) -> None:
        Pool.__init__(self, cluster, host)
        self._outer = outer

    def _open_if_needed(self) -> None:
        self._outer.dial()


class _Http2(Http2Pool):
    __slots__ = ("_outer",)

    def __init__(self, outer: NegotiatedPool, cluster: Cluster, host: Host) -> None:
        Http2Pool.__init__(self, cluster, host)
        self._outer = outer

    def _open_if_needed(self) -> None:
        self._outer.dial()
