"""HTTP/1 connections to one host of a cluster, each for one request at a time (Envoy's HTTP/1 connection pool)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from mesh.proxy.http.rescue import Overflow
from mesh.proxy.upstream.connection_pool import ConnectionPool
from mesh.proxy.upstream.http1 import Upstream

if TYPE_CHECKING:
    from mesh.proxy.http.codec import Requester
    from mesh.proxy.upstream.cluster import Cluster
    from mesh.proxy.upstream.host import Host


class Pool(ConnectionPool[Upstream]):
    """Keeps idle connections, last used first."""

    __slots__ = ("_idle",)

    def __init__(self, cluster: Cluster, host: Host) -> None:
        ConnectionPool.__init__(self, cluster, host)
        self._idle: list[Upstream] = []

    def request(self, caller: Requester) -> None:
        idle = self._idle
        while idle:
            upstream = idle.pop()
            if upstream.is_open():
                if not self.cluster.breaker.may_request():
                    idle.append(upstream)
                    raise Overflow
                self._attach(caller, upstream)
                return
        self._wait(caller)

    def close(self) -> None:
        for upstream in self._idle:
            upstream.close()
        self._idle.clear()
        for upstream in self._open:
            upstream.retire()

    # Told by Upstream

    def finished(self, upstream: Upstream) -> None:
        """The request on the connection is over, its response complete."""
        self.ended()
        self._offer(upstream)

    def lost(self, upstream: Upstream, had_caller: bool) -> None:
        """The connection is closed; `had_caller` if that cut a request short."""
        if had_caller:
            self.ended()
        if upstream in self._idle:
            self._idle.remove(upstream)
        self._forget(upstream, had_caller)

    def idle_too_long(self, upstream: Upstream, now: float) -> None:
        if upstream.caller is not None:
            upstream.deadline = now + self.cluster.idle_timeout
            return
        self.stats.upstream_cx_idle_timeout += 1
        self.cluster.idle_deadlines.discard(upstream)
        upstream.close()

    # Inner workings

    def _new(self) -> Upstream:
        self.stats.upstream_cx_http1_total += 1
        return Upstream(self)

    def _dial(self, upstream: Upstream) -> asyncio.Protocol:
        return upstream

    def _retire(self, upstream: Upstream) -> None:
        if upstream in self._idle:
            upstream.close()
        else:
            upstream.retire()

    def _offer(self, upstream: Upstream) -> None:
        limit = self.cluster.max_requests_per_connection
        if limit and upstream.requests >= limit:
            self.stats.upstream_cx_max_requests += 1
            upstream.close()
        elif not upstream.is_open():
            upstream.close()
        elif self._waiting and (caller := self._next_waiting()) is not None:
            self._attach(caller, upstream)
        elif self.cluster.is_closed or self.host.is_removed:
            upstream.close()
        else:
            self._idle.append(upstream)
            upstream.deadline = time.monotonic() + self.cluster.idle_timeout

    def _attach(self, caller: Requester, upstream: Upstream) -> None:
        self.host.active += 1
        self.host.rq_total += 1
        stats = self.stats
        stats.upstream_rq_total += 1
        stats.upstream_rq_active += 1
        upstream.caller = caller
        upstream.requests += 1
        caller.upstream_ready(upstream)
