"""Connections to one host of a cluster, and the requests that wait for one (Envoy's HTTP/1 connection pool)."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from typing import TYPE_CHECKING

from mesh.proxy.rescue import ConnectFailed, ConnectTimedOut, Failure, Overflow
from mesh.proxy.tls import TlsFailed
from mesh.proxy.upstream import Upstream

if TYPE_CHECKING:
    from mesh.proxy.cluster import Cluster, Host
    from mesh.proxy.codec import Requester


class Pool:
    """Keeps idle connections, last used first; opens more while requests wait and the breaker allows.

    As in Envoy each pool may open one connection whatever the breaker says, so that no host starves.
    """

    __slots__ = ("_connecting", "_idle", "_open", "_waiting", "cluster", "host", "stats")

    def __init__(self, cluster: Cluster, host: Host) -> None:
        self.cluster = cluster
        self.host = host
        self.stats = cluster.stats
        self._idle: list[Upstream] = []
        self._open: set[Upstream] = set()
        self._connecting: dict[Upstream, asyncio.Task[None]] = {}
        self._waiting: deque[Requester] = deque()

    @property
    def pending(self) -> int:
        """How many requests wait for a connection."""
        return len(self._waiting)

    def request(self, caller: Requester) -> None:
        """Give the caller a connection, now or later (`upstream_ready`). Raises Overflow."""
        breaker = self.cluster.breaker
        idle = self._idle
        while idle:
            upstream = idle.pop()
            if upstream.is_open():
                if not breaker.may_request():
                    idle.append(upstream)
                    raise Overflow
                self._attach(caller, upstream)
                return
        if not breaker.may_wait():
            raise Overflow
        self._waiting.append(caller)
        self.stats.upstream_rq_pending_total += 1
        self.stats.upstream_rq_pending_active += 1
        self._open_if_needed()

    def cancel(self, caller: Requester) -> None:
        """The caller waits no longer."""
        try:
            self._waiting.remove(caller)
        except ValueError:
            return
        self._left_queue()
        self.stats.upstream_rq_cancelled += 1

    def close(self) -> None:
        """Drain: idle connections close now, busy ones when their request is done; who waits is still served."""
        for upstream in self._idle:
            upstream.transport.abort()
        self._idle.clear()

    @property
    def connections(self) -> int:
        return len(self._open)

    # Told by Upstream

    def connected(self, upstream: Upstream) -> None:
        connecting = self._connecting.pop(upstream, None)
        if connecting is None:  # timed out in the same turn of the loop
            upstream.close()
            return
        now = time.monotonic()
        self.stats.upstream_cx_connect_ms.record((now - upstream.connected_at) * 1e3)
        upstream.connected_at = now
        if self.cluster.idle_timeout:
            upstream.deadline = self.cluster.loop.time() + self.cluster.idle_timeout
            self.cluster.idle_deadlines.add(upstream)
        self._offer(upstream)

    def finished(self, upstream: Upstream) -> None:
        """The request on the connection is over, its response complete."""
        self.ended()
        self._offer(upstream)

    def ended(self) -> None:
        """One request less is in flight."""
        self.host.active -= 1
        self.stats.upstream_rq_active -= 1

    def _offer(self, upstream: Upstream) -> None:
        """Give a free connection the next request, keep it, or close it."""
        limit = self.cluster.max_requests_per_connection
        if limit and upstream.requests >= limit:
            self.stats.upstream_cx_max_requests += 1
            upstream.close()
        elif not upstream.is_open():
            upstream.close()
        elif self._waiting:
            self._serve_waiting(upstream)
        elif self.cluster.is_closed or self.host.is_removed:
            upstream.close()
        else:
            self._keep(upstream)

    def lost(self, upstream: Upstream, had_caller: bool) -> None:
        """The connection is closed; `had_caller` if that cut a request short."""
        if had_caller:
            self.ended()
        if upstream in self._idle:
            self._idle.remove(upstream)
        self.cluster.idle_deadlines.discard(upstream)
        if upstream not in self._open:
            return
        self._open.remove(upstream)
        self.host.cx_active -= 1
        stats = self.stats
        stats.upstream_cx_active -= 1
        stats.upstream_cx_destroy += 1
        stats.upstream_cx_destroy_with_active_rq += had_caller
        stats.upstream_cx_destroy_remote_with_active_rq += had_caller
        stats.upstream_cx_length_ms.record((time.monotonic() - upstream.connected_at) * 1e3)
        self._open_if_needed()

    def idle_too_long(self, upstream: Upstream, now: float) -> None:
        if upstream.caller is not None:
            upstream.deadline = now + self.cluster.idle_timeout
            return
        self.stats.upstream_cx_idle_timeout += 1
        self.cluster.idle_deadlines.discard(upstream)
        upstream.close()

    # Inner workings

    def _keep(self, upstream: Upstream) -> None:
        self._idle.append(upstream)
        upstream.deadline = time.monotonic() + self.cluster.idle_timeout

    def _serve_waiting(self, upstream: Upstream) -> None:
        while self._waiting:
            caller = self._waiting.popleft()
            self._left_queue()
            if self.cluster.breaker.may_request():
                self._attach(caller, upstream)
                return
            caller.upstream_failed(Overflow())
        self._offer(upstream)

    def _attach(self, caller: Requester, upstream: Upstream) -> None:
        self.host.active += 1
        self.host.rq_total += 1
        stats = self.stats
        stats.upstream_rq_total += 1
        stats.upstream_rq_active += 1
        upstream.caller = caller
        upstream.requests += 1
        caller.upstream_ready(upstream)

    def _left_queue(self) -> None:
        self.stats.upstream_rq_pending_active -= 1

    def _open_if_needed(self) -> None:
        while len(self._waiting) > len(self._connecting):
            if not self.cluster.breaker.may_connect() and self._open:
                return
            self._connect()

    def _connect(self) -> None:
        upstream = Upstream(self)
        upstream.connected_at = time.monotonic()
        self._open.add(upstream)
        self.host.cx_active += 1
        self.host.cx_total += 1
        self.stats.upstream_cx_total += 1
        self.stats.upstream_cx_http1_total += 1
        self.stats.upstream_cx_active += 1
        self._connecting[upstream] = self.cluster.spawn(self._establish(upstream))

    async def _establish(self, upstream: Upstream) -> None:
        """Connect within the cluster's connect timeout. A task a connection: requests themselves have none."""
        try:
            async with asyncio.timeout(self.cluster.connect_timeout):
                await self.host.connect(self.cluster.loop, upstream)
        except TimeoutError:
            if upstream in self._connecting:
                self.stats.upstream_cx_connect_timeout += 1
            self._failed(upstream, ConnectTimedOut())
        except TlsFailed as error:
            self._failed(upstream, ConnectFailed(transport=str(error)))
        except ConnectionError as error:
            self._failed(upstream, ConnectFailed(transport=f"delayed connect error: {_words(error)}"))
        except OSError as error:
            self._failed(upstream, ConnectFailed(transport=f"immediate connect error: {_words(error)}"))

    def _failed(self, upstream: Upstream, failure: Failure) -> None:
        """As Envoy does, every waiting request fails with the connection, so that a dead host holds nobody up."""
        if self._connecting.pop(upstream, None) is None:
            return  # it was connected in the same turn of the loop
        upstream.close()
        self.stats.upstream_cx_connect_fail += 1
        self.host.cx_connect_fail += 1
        waiting = list(self._waiting)
        self._waiting.clear()
        self.lost(upstream, had_caller=False)
        self.stats.upstream_rq_pending_active -= len(waiting)
        self.stats.upstream_rq_pending_failure_eject += len(waiting)
        for caller in waiting:
            caller.upstream_failed(failure)


def _words(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
