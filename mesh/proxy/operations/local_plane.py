"""The data path in this process."""

from __future__ import annotations

import asyncio
from typing import TextIO

from envoy.config.bootstrap.v3.bootstrap_pb2 import ClusterManager
from envoy.config.core.v3.base_pb2 import Node

from mesh.proxy.compile.bind_config import compile_bind_config
from mesh.proxy.downstream.connection_limits import ConnectionLimits
from mesh.proxy.fields import Place
from mesh.proxy.observe.stats import Sample, Stats
from mesh.proxy.operations.plane import ClusterStatus, HostStatus, ListenerStatus, OutlierStatus, Thresholds
from mesh.proxy.resources import Resources
from mesh.proxy.runtime import Runtime
from mesh.proxy.server import Server
from mesh.proxy.upstream import breaker
from mesh.proxy.upstream.cluster import Cluster
from mesh.proxy.upstream.host import Host


class LocalPlane:
    """Adapts `Server` to `DataPlane`."""

    def __init__(self, server: Server, stats: Stats) -> None:
        self._server = server
        self._stats = stats

    @classmethod
    def of(
        cls,
        node: Node,
        log: TextIO,
        *,
        reuse_port: bool = False,
        limits: ConnectionLimits | None = None,
        manager: ClusterManager | None = None,
    ) -> LocalPlane:
        """A data path of its own in the running loop. `log` takes what cannot be told otherwise; `manager` is the
        bootstrap's `cluster_manager`. Raises Refused."""
        stats = Stats()
        server = Server(
            asyncio.get_running_loop(),
            node,
            stats,
            log,
            reuse_port=reuse_port,
            limits=limits or ConnectionLimits(),
            upstream_options=compile_bind_config(
                manager or ClusterManager(), Place("Bootstrap", node.id).at("cluster_manager")
            ),
        )
        return cls(server, stats)

    async def run(self) -> None:
        """Nothing to look after: it ends with this process."""

    async def check(self, resources: Resources) -> None:
        await self._server.check(resources)

    async def apply(self, resources: Resources) -> None:
        await self._server.apply(resources)

    async def wait_warming(self, known: frozenset[str] | None) -> frozenset[str]:
        warming = self._server.warming
        return warming.names if known is None else await warming.wait(known)

    async def samples(self) -> list[Sample]:
        return self._stats.snapshot()

    async def clusters(self) -> list[ClusterStatus]:
        return cluster_statuses(self._server.runtime)

    async def listeners(self) -> list[ListenerStatus]:
        bound = ((name, tuple(active.ports)) for name, active in self._server.listeners.items())
        return [ListenerStatus(name, ports) for name, ports in bound if ports]

    async def reset_counters(self) -> None:
        self._stats.reset_counters()

    async def reopen_logs(self) -> None:
        self._server.worker.logs.reopen()

    async def fail(self, is_failing: bool) -> None:
        self._server.fail(is_failing)

    async def drain(self, *, inbound_only: bool = False, keeps_accepting: bool = False) -> None:
        await self._server.begin_drain(inbound_only=inbound_only, keeps_accepting=keeps_accepting)

    async def close(self, grace_s: float) -> None:
        await self._server.close(grace_s)


def cluster_statuses(runtime: Runtime) -> list[ClusterStatus]:
    """Every cluster of `runtime` as it stands now."""
    found = []
    for name, cluster in runtime.clusters.items():
        config = cluster.config
        hosts = tuple(map(_host, cluster.hosts))
        default, high = _shown(config.thresholds), _shown(config.high_thresholds)
        found.append(ClusterStatus(name, default, high, _outlier(cluster), hosts))
    return found


def _shown(limits: breaker.Thresholds) -> Thresholds:
    return Thresholds(limits.max_connections, limits.max_pending_requests, limits.max_requests, limits.max_retries)


def _outlier(cluster: Cluster) -> OutlierStatus | None:
    if cluster.outlier is None:
        return None
    remote, local = cluster.outlier.remote, cluster.outlier.local
    return OutlierStatus(remote.average, remote.threshold, local.average, local.threshold)


def _host(host: Host) -> HostStatus:
    endpoint = host.endpoint
    return HostStatus(
        address=endpoint.ip,
        port=endpoint.port,
        hostname=endpoint.hostname,
        weight=host.weight,
        health_flags=host.health_flags(),
        locality=endpoint.locality,
        is_canary=endpoint.is_canary,
        priority=endpoint.priority,
        success_rate=host.health.remote.rate,
        local_origin_success_rate=host.health.local.rate,
        cx_active=host.cx_active,
        cx_connect_fail=host.cx_connect_fail,
        cx_total=host.cx_total,
        rq_active=host.active,
        rq_error=host.rq_error,
        rq_pending_active=sum(pool.pending for pool in host.pools),
        rq_success=host.rq_success,
        rq_timeout=host.rq_timeout,
        rq_total=host.rq_total,
    )
