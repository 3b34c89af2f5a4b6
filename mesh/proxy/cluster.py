"""A cluster: its hosts, who may be picked, and what guards them (balancer, breaker, outlier detection)."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Container, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mesh.proxy import breaker
from mesh.proxy.balancing import policies
from mesh.proxy.balancing.balancer import Balancer, Make, pick_untried
from mesh.proxy.counters import ClusterStats
from mesh.proxy.deadlines import Deadlines
from mesh.proxy.outlier import Health, OutlierConfig, OutlierDetector
from mesh.proxy.pool import Pool
from mesh.proxy.transport_socket import ClientTls
from mesh.proxy.upstream_config import UpstreamConfig

Spawn = Callable[[Coroutine[None, None, None]], "asyncio.Task[None]"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a cluster, as configured. `workload` is Istio's endpoint metadata, empty if there is none."""

    ip: str
    port: int
    weight: int = 1
    is_healthy: bool = True
    workload: str = ""
    hostname: str = ""
    metadata: Mapping[str, Mapping[str, str]] = field(default_factory=dict, compare=False)
    match_metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What is compiled from `envoy.config.cluster.v3.Cluster`. Times in seconds; 0 means no limit."""

    name: str
    connect_timeout: float = 5.0
    http: UpstreamConfig = field(default_factory=UpstreamConfig)
    buffer_limit: int = 1024 * 1024
    panic_threshold: float = 50.0
    make_balancer: Make = policies.round_robin
    thresholds: breaker.Thresholds = field(default_factory=breaker.Thresholds)
    outlier: OutlierConfig | None = None
    tls: ClientTls | None = None
    tls_matches: tuple[tuple[tuple[tuple[str, str], ...], ClientTls | None], ...] = ()
    services: tuple[tuple[str, str, str], ...] = ()  # (host, name, namespace) of metadata istio.services
    eds_name: str = ""  # where its endpoints come from; empty if they are its own
    endpoints: tuple[Endpoint, ...] = ()
    dns: tuple[Endpoint, ...] = ()  # STRICT_DNS: `ip` holds the name
    dns_refresh: float = 5.0

    def tls_of(self, endpoint: Endpoint) -> ClientTls | None:
        """The transport for an endpoint: the first match by its metadata (`transport_socket_matches`), else `tls`."""
        mine = set(endpoint.match_metadata)
        for wanted, tls in self.tls_matches:
            if mine.issuperset(wanted):
                return tls
        return self.tls


class Host:
    """One endpoint with what it has lived through. It stays while its address and transport stay."""

    __slots__ = (
        "active", "address", "cluster", "cx_active", "cx_connect_fail", "cx_total", "endpoint", "health",
        "is_removed", "pool", "rq_error", "rq_success", "rq_timeout", "rq_total", "tls", "weight",
    )  # fmt: skip

    def __init__(self, cluster: Cluster, endpoint: Endpoint, tls: ClientTls | None) -> None:
        self.cluster = cluster
        self.endpoint = endpoint
        self.tls = tls
        self.address = f"{endpoint.ip}:{endpoint.port}"
        self.weight = endpoint.weight
        self.health = Health()
        self.is_removed = False
        self.active = self.cx_active = self.cx_total = self.cx_connect_fail = 0
        self.rq_total = self.rq_success = self.rq_error = self.rq_timeout = 0
        self.pool = Pool(cluster, self)

    async def connect(self, loop: asyncio.AbstractEventLoop, upstream: asyncio.Protocol) -> None:
        """Connect `upstream`, through TLS if the host wants it. Raises OSError."""
        ip, port = self.endpoint.ip, self.endpoint.port
        if self.tls is None:
            await loop.create_connection(lambda: upstream, ip, port)
        else:
            await self.tls.connect(loop, upstream, ip, port, self.cluster.stats)


class Cluster:
    """Live state of one cluster. Made anew when its configuration changes, kept while only its endpoints do."""

    __slots__ = (
        "_balancer", "_resolving", "_sweep", "breaker", "config", "connect_timeout", "hosts", "idle_deadlines",
        "idle_timeout", "is_closed", "is_in_panic", "loop", "max_requests_per_connection", "outlier", "spawn", "stats",
    )  # fmt: skip

    def __init__(
        self, config: ClusterConfig, stats: ClusterStats, loop: asyncio.AbstractEventLoop, idle: Deadlines, spawn: Spawn
    ) -> None:
        self.config = config
        self.stats = stats
        self.loop = loop
        self.spawn = spawn
        self.idle_deadlines = idle
        self.idle_timeout = config.http.idle_timeout
        self.connect_timeout = config.connect_timeout
        self.max_requests_per_connection = config.http.max_requests_per_connection
        self.breaker = breaker.Breaker(config.thresholds, stats)
        self.hosts: tuple[Host, ...] = ()
        self.is_in_panic = False
        self.is_closed = False
        self._balancer: Balancer = config.make_balancer(())
        self._sweep: asyncio.TimerHandle | None = None
        self._resolving: asyncio.Task[None] | None = None
        self.outlier: OutlierDetector | None = None
        if config.outlier is not None:
            self.outlier = OutlierDetector(config.outlier, stats, time.monotonic, self.refresh)
            self._sweep = loop.call_later(config.outlier.interval, self._sweep_outliers)

    @property
    def name(self) -> str:
        return self.config.name

    def replace_endpoints(self, endpoints: Sequence[Endpoint]) -> None:
        """The cluster now has these endpoints. Hosts that stay keep their connections, counters and ejection."""
        known = {(host.endpoint.ip, host.endpoint.port, host.tls): host for host in self.hosts}
        hosts = []
        for endpoint in endpoints:
            tls = self.config.tls_of(endpoint)
            host = known.pop((endpoint.ip, endpoint.port, tls), None) or Host(self, endpoint, tls)
            host.endpoint = endpoint
            host.weight = endpoint.weight
            hosts.append(host)
        for gone in known.values():
            gone.is_removed = True
            gone.pool.close()
        if known or len(hosts) != len(self.hosts):
            self.stats.membership_change += 1
        self.hosts = tuple(hosts)
        if self.outlier is not None:
            self.outlier.replace_hosts([host.health for host in hosts])
        self.refresh()

    def resolve(self) -> None:
        """STRICT_DNS: look the names up now, and again each `dns_refresh` seconds."""
        self._resolving = self.spawn(self._resolve_for_ever())

    async def _resolve_for_ever(self) -> None:
        while True:
            self.stats.update_attempt += 1
            endpoints: list[Endpoint] = []
            for named in self.config.dns:
                try:
                    found = await self.loop.getaddrinfo(named.ip, named.port, type=socket.SOCK_STREAM)
                except OSError:
                    break  # keep what is known: a resolver that is down must not empty the cluster
                endpoints += [replace(named, ip=str(address[4][0]), hostname=named.ip) for address in found]
            else:
                self.stats.update_success += 1
                self.replace_endpoints(endpoints)
            await asyncio.sleep(self.config.dns_refresh)

    def refresh(self) -> None:
        """Work out anew which hosts may be picked."""
        healthy = [host for host in self.hosts if host.endpoint.is_healthy and not host.health.ejected]
        self.stats.membership_total = len(self.hosts)
        self.stats.membership_healthy = len(healthy)
        self.is_in_panic = len(self.hosts) > 0 and 100.0 * len(healthy) / len(self.hosts) < self.config.panic_threshold
        self._balancer = self.config.make_balancer(self.hosts if self.is_in_panic else healthy)

    def pick(self, key: int | None = None, tried: Container[Host] = (), attempts: int = 1) -> Host | None:
        """The host for the next request; avoids those in `tried` as far as `attempts` picks go.

        `key` is the request's hash by the route's `hash_policy`, a number of 64 bits; None if it has none.
        """
        if self.is_in_panic:
            self.stats.lb_healthy_panic += 1
        host = pick_untried(self._balancer, tried, attempts, key) if tried else self._balancer.pick(key)
        assert host is None or isinstance(host, Host)
        return host

    def close(self) -> None:
        """The cluster is gone from the configuration: finish what is in flight, keep nothing."""
        self.is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        if self._resolving is not None:
            self._resolving.cancel()
        for host in self.hosts:
            host.pool.close()

    def _sweep_outliers(self) -> None:
        assert self.outlier is not None
        self.outlier.sweep()
        self._sweep = self.loop.call_later(self.outlier.config.interval, self._sweep_outliers)
