"""A cluster: its hosts, who may be picked, and what guards them (balancer, breaker, outlier detection)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Coroutine, Sequence
from typing import cast

from mesh.proxy.deadlines import Deadlines
from mesh.proxy.observe.upstream_counters import ClusterStats, HealthCheckStats
from mesh.proxy.upstream import breaker
from mesh.proxy.upstream.balancing.arrangement import arrange
from mesh.proxy.upstream.balancing.balancer import Balancer, pick_untried
from mesh.proxy.upstream.balancing.member import Standing
from mesh.proxy.upstream.cluster_config import ClusterConfig
from mesh.proxy.upstream.discovery.dns import Resolver
from mesh.proxy.upstream.discovery.original_dst import OriginalDst
from mesh.proxy.upstream.endpoint import Assignment, Endpoint
from mesh.proxy.upstream.health.checker import HealthChecker
from mesh.proxy.upstream.high_priority import HighPriority
from mesh.proxy.upstream.host import Host
from mesh.proxy.upstream.outlier import OutlierDetector

Spawn = Callable[[Coroutine[None, None, None]], "asyncio.Task[None]"]


class Cluster:
    """Live state of one cluster. Made anew when its configuration changes, kept while only its endpoints do."""

    __slots__ = (
        "_balancer", "_cleanup", "_high", "_resolver", "_rules", "_sweep", "breaker", "checker", "config",
        "connect_timeout", "hosts", "idle_deadlines", "idle_timeout", "is_closed", "loop",
        "max_requests_per_connection", "original_dst", "outlier", "spawn", "stats",
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
        self._high: Cluster | None = None
        self.hosts: tuple[Host, ...] = ()
        self._rules = config.assignment.rules
        self.is_closed = False
        self._balancer: Balancer
        self._sweep: asyncio.TimerHandle | None = None
        self._cleanup: asyncio.TimerHandle | None = None
        self._resolver: Resolver | None = None
        if config.dns is not None:
            self._resolver = Resolver(config.dns, config.assignment, stats, loop, self._resolved)
        self.original_dst: OriginalDst | None = None
        if config.original_dst is not None:
            self.original_dst = OriginalDst(config.original_dst, self._host_wanted, self._destination_invalid)
        self.outlier: OutlierDetector | None = None
        self.checker: HealthChecker | None = None
        if config.health_check is not None:
            stats.health_check = stats.health_check or HealthCheckStats()
            self.checker = HealthChecker(config.health_check, self, stats.health_check, self._health_changed)
        if config.outlier is not None:
            self.outlier = OutlierDetector(config.outlier, stats, time.monotonic, self.refresh)
            self._sweep = loop.call_later(config.outlier.interval, self._sweep_outliers)
        self.refresh()

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def high(self) -> Cluster:
        """This cluster for requests of high priority."""
        if self._high is None:
            self._high = cast(Cluster, HighPriority(self, self.config.high_thresholds))
        return self._high

    def replace_endpoints(self, assignment: Assignment) -> None:
        """The cluster now has these endpoints. Hosts that stay keep their connections, counters and ejection."""
        known = {(host.endpoint.ip, host.endpoint.port, host.tls): host for host in self.hosts}
        hosts = []
        for endpoint in assignment.endpoints:
            tls = self.config.tls_of(endpoint)
            host = known.pop((endpoint.ip, endpoint.port, tls), None) or Host(self, endpoint, tls)
            host.endpoint = endpoint
            host.weight = endpoint.weight
            host.is_leaving = False
            hosts.append(host)
        if not self.config.removes_healthy_hosts:
            for key, host in list(known.items()):
                if host.checked is not None and not host.checked.has_failed and host.standing is not Standing.UNHEALTHY:
                    host.is_leaving = True  # still well by its checks: whoever says that it is gone may be wrong
                    hosts.append(known.pop(key))
        is_changed = bool(known) or len(hosts) != len(self.hosts)
        for gone in known.values():
            gone.remove()
        self._rules = assignment.rules
        self._set_hosts(hosts, is_changed)

    def _set_hosts(self, hosts: Sequence[Host], is_changed: bool) -> None:
        self.hosts = tuple(hosts)
        if is_changed:
            self._membership_changed()
        if self.outlier is not None:
            self.outlier.replace_hosts([host.health for host in hosts])
        if self.checker is not None:
            self.checker.replace_hosts(hosts)
        self.refresh()

    def _health_changed(self, host: Host) -> None:
        """An active health check changed its mind about a host."""
        assert host.checked is not None
        if host.checked.has_failed and host.is_leaving:
            host.remove()
            self._set_hosts([each for each in self.hosts if each is not host], is_changed=True)
            return
        self.refresh()

    def _membership_changed(self) -> None:
        self.stats.membership_change += 1
        if self.config.drains_on_change:
            for host in self.hosts:
                host.drain()

    def discover(self) -> None:
        """Begin to find hosts, if its type is to find them itself."""
        if self._resolver is not None:
            self._resolver.start(self.spawn)
        elif self.original_dst is not None:
            self._forget_unused()
        else:
            self.replace_endpoints(self.config.assignment)

    def _resolved(self, assignment: Assignment) -> None:
        if self.config.dns is not None and self.config.dns.is_logical and self.hosts and assignment.endpoints:
            self.hosts[0].move(assignment.endpoints[0])
        else:
            self.replace_endpoints(assignment)

    def _host_wanted(self, ip: str, port: int) -> Host:
        endpoint = Endpoint(ip, port)
        host = Host(self, endpoint, self.config.tls_of(endpoint))
        self._set_hosts((*self.hosts, host), is_changed=True)
        return host

    def _destination_invalid(self) -> None:
        self.stats.original_dst_host_invalid += 1

    def _forget_unused(self) -> None:
        assert self.original_dst is not None
        assert self.config.original_dst is not None
        gone = self.original_dst.unused()
        for host in gone:
            host.remove()
        if gone:
            self._set_hosts([host for host in self.hosts if not host.is_removed], is_changed=True)
        self._cleanup = self.loop.call_later(self.config.original_dst.cleanup_interval, self._forget_unused)

    def enter_service(self) -> None:
        """It is this cluster's breakers that the statistics of its name show from now on."""
        self.stats.breakers = (self.breaker, breaker.Breaker(self.config.high_thresholds, ClusterStats(), "high"))
        self.refresh()

    @property
    def is_warm(self) -> bool:
        """Whether its hosts are known and have been checked once."""
        is_resolved = self._resolver is None or self._resolver.is_resolved
        return is_resolved and (self.checker is None or self.checker.is_settled)

    async def wait_warm(self) -> None:
        """Until its hosts are known and have been checked once."""
        if self._resolver is not None:
            await self._resolver.wait_resolved()
        if self.checker is not None:
            await self.checker.wait_settled()

    def refresh(self) -> None:
        """Work out anew which hosts may be picked."""
        hosts, stats = self.hosts, self.stats
        for host in hosts:
            host.judge()
        stats.membership_total = len(hosts)
        stats.membership_healthy = sum(host.standing is Standing.HEALTHY for host in hosts)
        stats.membership_degraded = sum(host.standing is Standing.DEGRADED for host in hosts)
        stats.membership_excluded = sum(host.standing is Standing.EXCLUDED for host in hosts)
        if self.original_dst is not None:
            self._balancer = self.original_dst
            return
        self._balancer = arrange(hosts, self.config.balancing, self._rules, stats, self._active)

    def _active(self) -> int:
        return self.stats.upstream_rq_active

    def pick(self, key: int | None = None, tried: Container[Host] = (), attempts: int = 1) -> Host | None:
        """The host for the next request; avoids those in `tried` as far as `attempts` picks go.

        `key` is the request's hash by the route's `hash_policy`, a number of 64 bits; None if it has none.
        """
        # Its balancers pick among the hosts that they were made of; to make sure of it would cost as much as the pick.
        if not tried:
            return self._balancer.pick(key)  # type: ignore[return-value]
        return pick_untried(self._balancer, tried, attempts, key)  # type: ignore[return-value]

    def close(self) -> None:
        """The cluster is gone from the configuration: finish what is in flight, keep nothing."""
        self.is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        if self._resolver is not None:
            self._resolver.close()
        if self._cleanup is not None:
            self._cleanup.cancel()
        if self.checker is not None:
            self.checker.close()
        for host in self.hosts:
            host.drain()

    def _sweep_outliers(self) -> None:
        assert self.outlier is not None
        self.outlier.sweep()
        self._sweep = self.loop.call_later(self.outlier.config.interval, self._sweep_outliers)
