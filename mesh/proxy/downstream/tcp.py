"""TCP proxying: bytes both ways between a client and one host, with back-pressure and half-closed connections."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, cast

from mesh.proxy.downstream.connection_info import ConnectionInfo, text_of
from mesh.proxy.observe.downstream_counters import TcpStats
from mesh.proxy.upstream.balancing.digests import xxh64

if TYPE_CHECKING:
    from mesh.proxy.runtime import Worker
    from mesh.proxy.tls.connection import Peer
    from mesh.proxy.upstream.cluster import Cluster
    from mesh.proxy.upstream.host import Host


@dataclass(slots=True, eq=False)
class TcpConfig:
    """A compiled tcp_proxy. `clusters` are (name, weight); times in seconds, 0 means none."""

    stats: TcpStats
    clusters: tuple[tuple[str, int], ...]
    total_weight: int
    idle_timeout: float
    max_duration: float
    max_duration_jitter: float
    hashes_source_ip: bool
    max_connect_attempts: int
    write_limit: int  # as in HttpConfig
    finish_steps: tuple[Callable[[TcpDownstream], None], ...]
    connected_steps: tuple[Callable[[TcpDownstream], None], ...] = ()
    chain_name: str = ""

    def pick(self) -> str:
        """A cluster by weight."""
        value = int(random.random() * self.total_weight)
        for name, weight in self.clusters:
            value -= weight
            if value < 0:
                return name
        return self.clusters[-1][0]


class TcpDownstream(asyncio.Protocol):
    """The client's side. It reads nothing before there is somewhere to send it."""

    __slots__ = (
        "_connecting", "_ended", "_ends_at", "_held", "_limit", "attempts", "bytes_received", "bytes_sent", "cluster",
        "cluster_name", "config", "connection_id", "deadline", "details", "elapsed", "flags", "got_eof", "host", "info",
        "local_address", "on_lost", "peer", "remote_address", "started", "termination", "transport",
        "transport_failure", "upstream", "upstream_local_address", "upstream_peer", "worker",
    )  # fmt: skip

    def __init__(
        self, worker: Worker, config: TcpConfig, peer: Peer | None, on_lost: Callable[[TcpDownstream], None]
    ) -> None:
        self.worker = worker
        self.config = config
        self.peer = peer
        self.on_lost = on_lost
        self.info: ConnectionInfo | None = None  # set before connection_made where listener filters found it out
        self.transport: asyncio.Transport = None  # type: ignore[assignment] # until connection_made
        self.upstream: TcpUpstream | None = None
        self.cluster: Cluster | None = None
        self.cluster_name = ""
        self.host: Host | None = None
        self.bytes_received = self.bytes_sent = 0
        self.flags = self.details = self.transport_failure = ""
        self.termination: str | None = None  # why a filter did not admit it
        self.upstream_local_address = ""
        self.upstream_peer: Peer | None = None
        self.attempts = 0
        self.elapsed = 0.0
        self.deadline = self._ends_at = inf
        self._connecting: asyncio.Task[None] | None = None
        self._held: list[bytes] = []
        self.got_eof = False
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.started = time.monotonic()
        info = self.info = self.info or ConnectionInfo.of(transport)
        self.remote_address = text_of(info.remote)
        self.local_address = text_of(info.local)
        self.connection_id = next(self.worker.connection_ids)
        config = self.config
        config.stats.downstream_cx_total += 1
        config.stats.downstream_cx_active += 1
        if config.write_limit:
            self.transport.set_write_buffer_limits(config.write_limit)
        if self.termination is not None:
            self.transport.abort()
            return
        if config.max_duration:
            jitter = 1 + random.random() * config.max_duration_jitter
            self.deadline = self._ends_at = self.worker.loop.time() + config.max_duration * jitter
            self.worker.idle_deadlines.add(self)
        self.transport.pause_reading()
        self._connecting = self.worker.spawn(self._connect())

    @property
    def chain_name(self) -> str:
        return self.config.chain_name

    @property
    def metadata(self) -> dict[str, dict[str, Any]]:
        """Dynamic metadata, by namespace: what network filters said of the connection."""
        return self.info.metadata if self.info is not None else {}

    def turn_away(self, why: str) -> None:
        """End it as soon as it is made: a network filter does not admit it."""
        self.termination = why

    def data_received(self, data: bytes) -> None:
        self.bytes_received += len(data)
        self.config.stats.downstream_cx_rx_bytes_total += len(data)
        self.touch()
        if self.upstream is None:
            self._held.append(data)  # what came with the TLS handshake, before reading was paused
        else:
            self.upstream.send(data)

    def eof_received(self) -> bool:
        """The client sends no more; the connection ends when the host does not either."""
        self.got_eof = True
        if self.upstream is None:
            return True
        if self.upstream.got_eof:
            return False
        self.upstream.half_close()
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        self._ended = True
        if self._connecting is not None and self.upstream is None:
            self._connecting.cancel()  # not what has connected: uvloop would close that without a word
        if self.upstream is not None:
            self.upstream.end(reset=exc is not None)
        self.worker.idle_deadlines.discard(self)
        self.config.stats.downstream_cx_active -= 1
        self.elapsed = time.monotonic() - self.started
        for step in self.config.finish_steps:
            step(self)
        self.on_lost(self)

    def pause_writing(self) -> None:
        self.config.stats.downstream_flow_control_paused_reading_total += 1
        if self.upstream is not None:
            self.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        self.config.stats.downstream_flow_control_resumed_reading_total += 1
        if self.upstream is not None:
            self.upstream.transport.resume_reading()

    def drain(self, idle_s: float) -> None:
        """TCP has no message boundary to end at: the connection lives until one side ends it or the worker does."""

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()

    # Connecting

    async def _connect(self) -> None:
        """Try hosts until one answers or the attempts are used up."""
        assert self.info is not None
        self.cluster_name = self.info.cluster_name or self.config.pick()
        self.cluster = self.worker.runtime.clusters.get(self.cluster_name)
        if self.cluster is None:
            self.config.stats.downstream_cx_no_route += 1
            self._give_up("NC", "cluster_not_found")
            return
        for _ in range(self.config.max_connect_attempts):
            self.host = self.cluster.pick(self._key(self.cluster))
            if self.host is None:
                self.cluster.stats.upstream_cx_none_healthy += 1
                self._give_up("UH", "no_healthy_upstream")
                return
            if not self.cluster.breaker.may_connect(self.host.cx_active):
                self._give_up("UO", "upstream_reset_before_response_started{overflow}")
                return
            self.attempts += 1
            if await self._connect_to(self.cluster, self.host):
                return
        self.cluster.stats.upstream_cx_connect_attempts_exceeded += 1
        self._give_up("UF,URX", f"upstream_reset_before_response_started{{{self.transport_failure.replace(' ', '_')}}}")

    def _key(self, cluster: Cluster) -> int | None:
        assert self.info is not None
        if cluster.original_dst is not None:
            return cluster.original_dst.key(None, self.info.original_destination)
        return xxh64(self.info.remote[0].encode()) if self.config.hashes_source_ip else None

    async def _connect_to(self, cluster: Cluster, host: Host) -> bool:
        upstream = TcpUpstream(self, cluster, host)
        try:
            async with asyncio.timeout(cluster.connect_timeout) as self._limit:
                await host.connect(self.worker.loop, upstream)
        except TimeoutError:
            cluster.stats.upstream_cx_connect_timeout += 1
            self.transport_failure = "connection timeout"
        except OSError as error:
            self.transport_failure = str(error)
        if self.upstream is upstream:
            if cluster.outlier is not None and cluster.config.outlier is not None:
                cluster.outlier.responded(host.health, 200)
            return True
        cluster.stats.upstream_cx_connect_fail += 1
        host.cx_connect_fail += 1
        if cluster.outlier is not None:
            cluster.outlier.failed_locally(host.health, 503)
        return False

    def _give_up(self, flag: str, details: str) -> None:
        self.flags, self.details = flag, details
        self.transport.abort() if self.transport.is_closing() else self.transport.close()

    @property
    def has_given_up(self) -> bool:
        """Whether a connection that is made now comes too late: the client has gone, or the time is up."""
        return self._ended or self._limit.expired()

    def connected(self, upstream: TcpUpstream) -> None:
        """The upstream is there: let the bytes flow."""
        self._limit.reschedule(None)  # see `ConnectionPool`: from here on it must not be cancelled
        self.upstream = upstream
        local = upstream.transport.get_extra_info("sockname")
        self.upstream_local_address = text_of((local[0], local[1]))
        self.upstream_peer = upstream.transport.get_extra_info("peer")
        for step in self.config.connected_steps:
            step(self)
        for data in self._held:
            upstream.send(data)
        self._held.clear()
        if self.got_eof:
            upstream.half_close()
        if self.config.idle_timeout:
            self.touch()
            self.worker.idle_deadlines.add(self)
        self.transport.resume_reading()

    # For the upstream's side

    def touch(self) -> None:
        """Something moved."""
        if self.config.idle_timeout:
            self.deadline = min(self.worker.loop.time() + self.config.idle_timeout, self._ends_at)

    def deadline_passed(self, now: float) -> None:
        self.worker.idle_deadlines.discard(self)
        if now >= self._ends_at:
            self.config.stats.max_downstream_connection_duration += 1
            self.flags = "DT"
            self.transport.close()
        else:
            self.config.stats.idle_timeout += 1
            self.transport.abort()

    def upstream_ended(self, reset: bool) -> None:
        """The host closed or reset its connection."""
        self.upstream = None
        if not self._ended:
            if reset:
                self.transport.abort()
            else:
                self.transport.close()

    def half_close(self) -> None:
        """The host sends no more, but may still read."""
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()


class TcpUpstream(asyncio.Protocol):
    """The host's side."""

    __slots__ = ("_cluster", "_downstream", "_ended_last", "_host", "got_eof", "transport")

    def __init__(self, downstream: TcpDownstream, cluster: Cluster, host: Host) -> None:
        self._downstream = downstream
        self._cluster = cluster
        self._host = host
        self.got_eof = False
        self._ended_last = False  # the host's end was the last that the connection waited for
        self.transport: asyncio.Transport = None  # type: ignore[assignment] # until connection_made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._downstream.has_given_up:
            cast(asyncio.Transport, transport).abort()
            return
        self.transport = cast(asyncio.Transport, transport)
        self._host.cx_active += 1
        self._host.cx_total += 1
        self._host.active += 1
        stats = self._cluster.stats
        stats.upstream_cx_total += 1
        stats.upstream_cx_active += 1
        stats.upstream_rq_pending_total += 1
        stats.upstream_rq_total += 1
        stats.upstream_rq_active += 1
        self._downstream.connected(self)

    def data_received(self, data: bytes) -> None:
        downstream = self._downstream
        downstream.bytes_sent += len(data)
        self._cluster.stats.upstream_cx_rx_bytes_total += len(data)
        downstream.config.stats.downstream_cx_tx_bytes_total += len(data)
        downstream.touch()
        downstream.transport.write(data)

    def eof_received(self) -> bool:
        """The host sends no more; the connection ends when the client does not either."""
        self.got_eof = True
        if self._downstream.got_eof:
            self._ended_last = True
            return False
        self._downstream.half_close()
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._downstream.upstream is not self:
            return  # it came too late
        self._host.cx_active -= 1
        self._host.active -= 1
        stats = self._cluster.stats
        stats.upstream_cx_active -= 1
        stats.upstream_rq_active -= 1
        stats.upstream_cx_destroy += 1
        stats.upstream_cx_destroy_with_active_rq += 1  # the connection is the request
        if self._ended_last or exc is not None:
            stats.upstream_cx_destroy_remote += 1
            stats.upstream_cx_destroy_remote_with_active_rq += 1
        else:
            stats.upstream_cx_destroy_local += 1
            stats.upstream_cx_destroy_local_with_active_rq += 1
        self._downstream.upstream_ended(reset=exc is not None)

    def send(self, data: bytes) -> None:
        """More of what the client says."""
        self._cluster.stats.upstream_cx_tx_bytes_total += len(data)
        self.transport.write(data)

    def pause_writing(self) -> None:
        self._downstream.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._downstream.transport.is_closing():
            self._downstream.transport.resume_reading()

    def half_close(self) -> None:
        """The client sends no more, but may still read."""
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    def end(self, reset: bool) -> None:
        if reset:
            self.transport.abort()
        else:
            self.transport.close()
