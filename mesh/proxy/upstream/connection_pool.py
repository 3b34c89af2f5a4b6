"""What pools of every protocol share: connecting to one host, and the requests that wait for it."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from mesh.proxy.http.rescue import ConnectFailed, ConnectTimedOut, Failure, Overflow
from mesh.proxy.tls.connection import TlsFailed

if TYPE_CHECKING:
    from mesh.proxy.http.codec import Requester
    from mesh.proxy.tls.transport_socket import ServerName
    from mesh.proxy.upstream.cluster import Cluster
    from mesh.proxy.upstream.host import Host


class PooledConnection(Protocol):
    """A connection as its pool sees it. `deadline` and `connected_at` are monotonic seconds; `requests` is how many it
    has carried. `closed_here`: it is we who close it, and `was_cut`: with a request under way.
    """

    deadline: float
    connected_at: float
    requests: int
    closed_here: bool
    was_cut: bool

    def close(self) -> None: ...

    def deadline_passed(self, now: float) -> None: ...


ConnectionT = TypeVar("ConnectionT", bound=PooledConnection)


class ConnectionPool(Generic[ConnectionT]):
    """Opens connections while requests wait and the breaker allows.

    As in Envoy each pool may open one connection whatever the breaker says, so that no host starves.
    """

    __slots__ = ("_connecting", "_lifetimes", "_open", "_waiting", "cluster", "host", "server_name", "stats")

    def __init__(self, cluster: Cluster, host: Host) -> None:
        self.cluster = cluster
        self.host = host
        self.server_name: ServerName | None = None  # stands over what the transport socket is configured with
        self.stats = cluster.stats
        self._open: set[ConnectionT] = set()
        # With what ends the attempt, once that is under way. Who has connected must not be cancelled any more: uvloop
        # would close the connection without a word to its protocol.
        self._connecting: dict[ConnectionT, asyncio.Timeout | None] = {}
        self._waiting: deque[Requester] = deque()
        self._lifetimes: dict[ConnectionT, asyncio.TimerHandle] = {}  # empty unless connections have a longest one

    def rename(self, name: ServerName) -> None:
        """Connect under this name from now on."""
        self.server_name = name

    @property
    def pending(self) -> int:
        """How many requests wait for a connection."""
        return len(self._waiting)

    @property
    def connections(self) -> int:
        return len(self._open)

    def request(self, caller: Requester) -> None:
        """Give the caller a stream, now or later (`upstream_ready`). Raises Overflow."""
        raise NotImplementedError

    def close(self) -> None:
        """Drain: idle connections close now, busy ones when their requests are done; who waits is still served."""
        raise NotImplementedError

    def cancel(self, caller: Requester) -> None:
        """The caller waits no longer."""
        try:
            self._waiting.remove(caller)
        except ValueError:
            return
        self._left_queue()
        self.stats.upstream_rq_cancelled += 1

    # Told by connections

    def connected(self, upstream: ConnectionT) -> None:
        limit = self._connecting.get(upstream)
        if limit is not None:
            if limit.expired():  # in the same turn of the loop: the attempt is about to fail
                upstream.close()
                return
            limit.reschedule(None)
        del self._connecting[upstream]
        now = time.monotonic()
        self.stats.upstream_cx_connect_ms.record((now - upstream.connected_at) * 1e3)
        upstream.connected_at = now
        if self.cluster.idle_timeout:
            upstream.deadline = self.cluster.loop.time() + self.cluster.idle_timeout
            self.cluster.idle_deadlines.add(upstream)
        longest = self.cluster.config.http.max_connection_duration
        if longest:
            self._lifetimes[upstream] = self.cluster.loop.call_later(longest, self._outlived, upstream)
        self._offer(upstream)

    def ended(self) -> None:
        """One request less is in flight."""
        self.host.active -= 1
        self.stats.upstream_rq_active -= 1

    def _forget(self, upstream: ConnectionT, had_requests: bool) -> None:
        """The connection is closed; `had_requests` if that cuts some short now."""
        self.cluster.idle_deadlines.discard(upstream)
        if self._lifetimes and (timer := self._lifetimes.pop(upstream, None)) is not None:
            timer.cancel()
        if upstream not in self._open:
            return
        self._open.remove(upstream)
        self.host.cx_active -= 1
        stats = self.stats
        stats.upstream_cx_active -= 1
        stats.upstream_cx_destroy += 1
        here, cut = upstream.closed_here, had_requests or upstream.was_cut
        stats.upstream_cx_destroy_with_active_rq += cut
        if here:
            stats.upstream_cx_destroy_local += 1
            stats.upstream_cx_destroy_local_with_active_rq += cut
        else:
            stats.upstream_cx_destroy_remote += 1
            stats.upstream_cx_destroy_remote_with_active_rq += cut
        stats.upstream_rq_per_cx.record(upstream.requests)
        stats.upstream_cx_length_ms.record((time.monotonic() - upstream.connected_at) * 1e3)
        self._open_if_needed()

    # What a protocol decides

    def _new(self) -> ConnectionT:
        """A connection that is not connected yet."""
        raise NotImplementedError

    def _dial(self, upstream: ConnectionT) -> asyncio.Protocol:
        """What is connected for it."""
        raise NotImplementedError

    def _offer(self, upstream: ConnectionT) -> None:
        """Give a connection that can take a request the next one, keep it, or close it."""
        raise NotImplementedError

    def _connecting_capacity(self) -> int:
        """How many requests the connections that are being made will serve at once."""
        return len(self._connecting)

    def _has_connection(self) -> bool:
        return bool(self._open)

    # For a pool that negotiates the protocol

    def share(self, waiting: deque[Requester]) -> None:
        """Serve those who wait in another pool's queue, which dials for this one."""
        self._waiting = waiting

    def adopt(self, connected_at: float, limit: asyncio.Timeout | None) -> ConnectionT:
        """A connection that somebody else has dialled, within `limit`, and counted."""
        upstream = self._new()
        upstream.connected_at = connected_at
        self._open.add(upstream)
        self._connecting[upstream] = limit
        return upstream

    def _retire(self, upstream: ConnectionT) -> None:
        """Close a connection once it has no request left, which may be now."""
        raise NotImplementedError

    # Inner workings

    def _outlived(self, upstream: ConnectionT) -> None:
        self._lifetimes.pop(upstream, None)
        self.stats.upstream_cx_max_duration_reached += 1
        self._retire(upstream)

    def _wait(self, caller: Requester) -> None:
        if not self.cluster.breaker.may_wait():
            raise Overflow
        self._waiting.append(caller)
        self.stats.upstream_rq_pending_total += 1
        self.stats.upstream_rq_pending_active += 1
        self._open_if_needed()

    def _left_queue(self) -> None:
        self.stats.upstream_rq_pending_active -= 1

    def _next_waiting(self) -> Requester | None:
        """The next request that waits and may be sent."""
        while self._waiting:
            caller = self._waiting.popleft()
            self._left_queue()
            if self.cluster.breaker.may_request():
                return caller
            caller.upstream_failed(Overflow())
        return None

    def _open_if_needed(self) -> None:
        while len(self._waiting) > self._connecting_capacity():
            if not self.cluster.breaker.may_connect(self.host.cx_active) and self._has_connection():
                return
            self._connect()

    def _connect(self) -> None:
        upstream = self._new()
        upstream.connected_at = time.monotonic()
        self._open.add(upstream)
        self.host.cx_active += 1
        self.host.cx_total += 1
        self.stats.upstream_cx_total += 1
        self.stats.upstream_cx_active += 1
        self._connecting[upstream] = None
        self.cluster.spawn(self._establish(upstream))

    async def _establish(self, upstream: ConnectionT) -> None:
        """Connect within the cluster's connect timeout. A task a connection: requests themselves have none."""
        try:
            async with asyncio.timeout(self.cluster.connect_timeout) as limit:
                self._connecting[upstream] = limit
                await self.host.connect(self.cluster.loop, self._dial(upstream), self.server_name)
        except TimeoutError:
            self.stats.upstream_cx_connect_timeout += 1
            self._failed(upstream, ConnectTimedOut(), by_us=True)
        except TlsFailed as error:
            self._failed(upstream, ConnectFailed(transport=str(error)), by_us=True)
        except ConnectionError as error:
            self._failed(upstream, ConnectFailed(transport=f"delayed connect error: {_words(error)}"))
        except OSError as error:
            self._failed(upstream, ConnectFailed(transport=f"immediate connect error: {_words(error)}"))

    def _failed(self, upstream: ConnectionT, failure: Failure, *, by_us: bool = False) -> None:
        """As Envoy does, every waiting request fails with the connection, so that a dead host holds nobody up."""
        del self._connecting[upstream]
        upstream.close()
        upstream.closed_here = by_us
        self.stats.upstream_cx_connect_fail += 1
        self.host.cx_connect_fail += 1
        waiting = list(self._waiting)
        self._waiting.clear()
        self._forget(upstream, had_requests=False)
        self.stats.upstream_rq_pending_active -= len(waiting)
        self.stats.upstream_rq_pending_failure_eject += len(waiting)
        for caller in waiting:
            caller.upstream_failed(failure)


def _words(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
