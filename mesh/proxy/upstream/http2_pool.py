"""HTTP/2 connections to one host of a cluster, each for many requests at once (Envoy's HTTP/2 connection pool)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from mesh.proxy.http.rescue import Overflow
from mesh.proxy.http2.stats import Http2Stats
from mesh.proxy.upstream.connection_pool import ConnectionPool
from mesh.proxy.upstream.http2 import Http2Upstream

if TYPE_CHECKING:
    from mesh.proxy.http.codec import Requester
    from mesh.proxy.upstream.cluster import Cluster
    from mesh.proxy.upstream.host import Host


class Http2Pool(ConnectionPool[Http2Upstream]):
    """Fills the first connection that takes one more stream; opens another when none does and requests wait."""

    __slots__ = ("_ready",)

    def __init__(self, cluster: Cluster, host: Host) -> None:
        ConnectionPool.__init__(self, cluster, host)
        self._ready: list[Http2Upstream] = []  # connected, and not going away

    def request(self, caller: Requester) -> None:
        for upstream in self._ready:
            if upstream.codec.may_open():
                if not self.cluster.breaker.may_request():
                    raise Overflow
                self._attach(caller, upstream)
                return
        self._wait(caller)

    def close(self) -> None:
        for upstream in list(self._ready):
            self._drain(upstream)

    # Told by Http2Upstream

    def stream_over(self, upstream: Http2Upstream) -> None:
        """A stream of the connection is over: it has room for another, or has nothing left to do."""
        self.ended()
        if upstream in self._ready:
            self._offer(upstream)
        elif not upstream.codec.streams:
            upstream.close_soon()

    def settings_changed(self, upstream: Http2Upstream) -> None:
        """The host may allow more streams than before, or fewer."""
        if self._waiting and upstream in self._ready:
            self._offer(upstream)

    def leaving(self, upstream: Http2Upstream) -> None:
        """The connection takes no more streams: it closes with its last one."""
        if upstream in self._ready:
            self.stats.upstream_cx_close_notify += 1
            self._drain(upstream)
            self._open_if_needed()

    def lost(self, upstream: Http2Upstream, streams: int) -> None:
        """The connection is closed, which cuts so many requests short: each will say that it is over."""
        if upstream in self._ready:
            self._ready.remove(upstream)
        self._forget(upstream, streams > 0)

    def idle_too_long(self, upstream: Http2Upstream, now: float) -> None:
        if upstream.codec.streams:
            upstream.deadline = now + self.cluster.idle_timeout
            return
        self.stats.upstream_cx_idle_timeout += 1
        self.cluster.idle_deadlines.discard(upstream)
        self._drain(upstream)

    # Inner workings

    def _new(self) -> Http2Upstream:
        self.stats.upstream_cx_http2_total += 1
        if self.stats.http2 is None:
            self.stats.http2 = Http2Stats()
        return Http2Upstream(self, self.cluster.config.http.http2, self.stats.http2)

    def _dial(self, upstream: Http2Upstream) -> asyncio.Protocol:
        return upstream

    def _connecting_capacity(self) -> int:
        return len(self._connecting) * self.cluster.config.http.http2.max_concurrent_streams

    def _offer(self, upstream: Http2Upstream) -> None:
        if upstream not in self._ready:
            self._ready.append(upstream)
        while self._waiting and upstream.codec.may_open():
            caller = self._next_waiting()
            if caller is None:
                break
            self._attach(caller, upstream)
            if upstream not in self._ready:
                return
        if upstream.codec.streams:
            if self._waiting:
                self._open_if_needed()
        elif self.cluster.is_closed or self.host.is_removed:
            self._drain(upstream)
        else:
            upstream.deadline = time.monotonic() + self.cluster.idle_timeout

    def _retire(self, upstream: Http2Upstream) -> None:
        self._drain(upstream)
        self._open_if_needed()

    def _drain(self, upstream: Http2Upstream) -> None:
        if upstream in self._ready:
            self._ready.remove(upstream)
        if not upstream.codec.streams:
            upstream.close_soon()

    def _attach(self, caller: Requester, upstream: Http2Upstream) -> None:
        self.host.active += 1
        self.host.rq_total += 1
        stats = self.stats
        stats.upstream_rq_total += 1
        stats.upstream_rq_active += 1
        upstream.requests += 1
        limit = self.cluster.max_requests_per_connection
        if limit and upstream.requests >= limit:
            stats.upstream_cx_max_requests += 1
            self._ready.remove(upstream)
        caller.upstream_ready(upstream.new_stream(caller))
