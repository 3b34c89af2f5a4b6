"""A cluster: its hosts, who may be picked, and what guards them (balancer, breaker, outlier detection)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Coroutine, Sequence
from typing import TYPE_CHECKING, cast

from mesh.proxy.deadlines import Deadlines
from mesh.proxy.observe.counters import ClusterStats, HealthCheckStats
from mesh.proxy.tls.transport_socket import ClientTls, ServerName
from mesh.proxy.upstream import breaker
from mesh.proxy.upstream.balancing.arrangement import arrange
from mesh.proxy.upstream.balancing.balancer import Balancer, pick_untried
from mesh.proxy.upstream.balancing.member import Locality, Standing
from mesh.proxy.upstream.cluster_config import ClusterConfig
from mesh.proxy.upstream.connect_pool import ConnectPool
from mesh.proxy.upstream.dialling import Dial
from mesh.proxy.upstream.discovery.dns import Resolver
from mesh.proxy.upstream.discovery.original_dst import OriginalDst
from mesh.proxy.upstream.endpoint import Assignment, EdsHealth, Endpoint
from mesh.proxy.upstream.health.checker import HealthChecker
from mesh.proxy.upstream.health.session import CheckedHealth
from mesh.proxy.upstream.high_priority import HighPriority
from mesh.proxy.upstream.outlier import Health, OutlierDetector
from mesh.proxy.upstream.pools import HostPool, make_pool

if TYPE_CHECKING:
    from mesh.proxy.http.codec import Requester

Spawn = Callable[[Coroutine[None, None, None]], "asyncio.Task[None]"]
_UNCHECKED = CheckedHealth(has_failed=False, is_pending=False)
_BAD = frozenset((EdsHealth.UNHEALTHY, EdsHealth.DRAINING, EdsHealth.TIMEOUT))


class Host:
    """One endpoint with what it has lived through. It stays while its address and transport stay."""

    __slots__ = (
        "_connect_pool", "_has_failed", "_high_pool", "active", "address", "checked", "cluster", "cx_active",
        "cx_connect_fail", "cx_total", "endpoint", "health", "healthy_since", "is_leaving", "is_removed", "pool",
        "rq_error", "rq_success", "rq_timeout", "rq_total", "standing", "tls", "weight",
    )  # fmt: skip

    def __init__(self, cluster: Cluster, endpoint: Endpoint, tls: ClientTls | None) -> None:
        self.cluster = cluster
        self.endpoint = endpoint
        self.tls = tls
        self.address = f"{endpoint.ip}:{endpoint.port}"
        self.weight = endpoint.weight
        self.health = Health()
        is_checked = cluster.checker is not None and not (endpoint.check is not None and endpoint.check.is_disabled)
        self.checked = CheckedHealth() if is_checked else None
        self.is_leaving = False  # no longer configured, kept while it passes its checks
        self.standing = self._standing()
        self.healthy_since: float | None = time.monotonic() if self.standing is Standing.HEALTHY else None
        self.is_removed = False
        self.active = self.cx_active = self.cx_total = self.cx_connect_fail = 0
        self.rq_total = self.rq_success = self.rq_error = self.rq_timeout = 0
        self.pool = make_pool(cluster, self)
        self._high_pool: HostPool | None = None
        self._connect_pool: ConnectPool | None = None
        self._has_failed = self.checked is not None

    @property
    def high_pool(self) -> HostPool:
        """The connections for requests of high priority."""
        if self._high_pool is None:
            self._high_pool = make_pool(self.cluster.high, self)
        return self._high_pool

    @property
    def connect_pool(self) -> ConnectPool:
        """The connections of CONNECT requests that end here."""
        if self._connect_pool is None:
            self._connect_pool = ConnectPool(self.cluster, self)
        return self._connect_pool

    @property
    def pools(self) -> tuple[HostPool | ConnectPool, ...]:
        return tuple(pool for pool in (self.pool, self._high_pool, self._connect_pool) if pool is not None)

    @property
    def is_canary(self) -> bool:
        return self.endpoint.is_canary

    def cancel(self, caller: Requester) -> None:
        """The caller waits no longer for a connection."""
        for pool in self.pools:
            pool.cancel(caller)

    def drain(self) -> None:
        """Close idle connections now and busy ones when their request is done."""
        for pool in self.pools:
            pool.close()

    @property
    def priority(self) -> int:
        return self.endpoint.priority

    @property
    def locality(self) -> Locality:
        return self.endpoint.locality

    @property
    def locality_weight(self) -> int:
        return self.endpoint.locality_weight

    @property
    def hash_key(self) -> str:
        """What places it in a ring or a Maglev table."""
        endpoint = self.endpoint
        if endpoint.hash_name:
            return endpoint.hash_name
        return endpoint.hostname if self.cluster.config.balancing.uses_hostnames else self.address

    def remove(self) -> None:
        """The cluster has this host no more: finish what is in flight, keep nothing."""
        self.is_removed = True
        self.drain()

    def move(self, endpoint: Endpoint) -> None:
        """Its name has another address now: new connections go there, those that stand stay."""
        self.endpoint = endpoint
        self.address = f"{endpoint.ip}:{endpoint.port}"

    def judge(self) -> None:
        """Work out `standing` anew. Who fails loses his connections: others might reach him better."""
        self.standing = self._standing()
        has_failed = self.health.ejected or (self.checked is not None and self.checked.has_failed)
        if has_failed and not self._has_failed:
            self.drain()
        self._has_failed = has_failed
        if self.standing is not Standing.HEALTHY:
            self.healthy_since = None
        elif self.healthy_since is None:
            self.healthy_since = time.monotonic()

    def _standing(self) -> Standing:
        status, checked = self.endpoint.status, self.checked
        if checked is not None and (
            checked.is_excluded or (checked.is_pending and self.cluster.config.ignores_new_hosts)
        ):
            return Standing.EXCLUDED
        if self.health.ejected or status in _BAD or (checked is not None and checked.has_failed):
            return Standing.UNHEALTHY
        is_degraded = status is EdsHealth.DEGRADED or (checked is not None and checked.is_degraded)
        return Standing.DEGRADED if is_degraded else Standing.HEALTHY

    def health_flags(self) -> tuple[str, ...]:
        """What is wrong with it, as Envoy names it; empty if nothing is."""
        status, checked = self.endpoint.status, self.checked or _UNCHECKED
        flags = {
            "failed_active_hc": checked.has_failed,
            "failed_outlier_check": self.health.ejected,
            "failed_eds_health": status in (EdsHealth.UNHEALTHY, EdsHealth.TIMEOUT),
            "degraded_active_hc": checked.is_degraded,
            "degraded_eds_health": status is EdsHealth.DEGRADED,
            "pending_dynamic_removal": self.is_leaving,
            "pending_active_hc": checked.is_pending and self.cluster.config.ignores_new_hosts,
            "excluded_via_immediate_hc_fail": checked.is_excluded,
            "active_hc_timeout": checked.has_timed_out,
            "eds_status_draining": status is EdsHealth.DRAINING,
        }
        return tuple(name for name, is_set in flags.items() if is_set)

    async def connect(
        self, loop: asyncio.AbstractEventLoop, upstream: asyncio.Protocol, name: ServerName | None = None
    ) -> None:
        """Connect `upstream`, through TLS if the host wants it, perhaps under a name of its own. Raises OSError."""
        endpoint = self.endpoint
        await self._connect(loop, upstream, (endpoint.ip, *endpoint.other_ips), endpoint.port, name)

    async def connect_for_check(self, connection: asyncio.Protocol, port: int) -> None:
        """The same for a health check, to `port` if that is not 0, or to where the endpoint wants to be checked."""
        endpoint, check = self.endpoint, self.endpoint.check
        ip = (check.ip if check is not None else "") or endpoint.ip
        own = check.port if check is not None else 0
        await self._connect(self.cluster.loop, connection, (ip,), port or own or endpoint.port, None)

    async def _connect(
        self,
        loop: asyncio.AbstractEventLoop,
        upstream: asyncio.Protocol,
        ips: tuple[str, ...],
        port: int,
        name: ServerName | None,
    ) -> None:
        dial = Dial(loop, ips, port, self.cluster.config.socket_options, self.cluster.config.source)
        if self.tls is None:
            await dial(lambda: upstream)
        else:
            await self.tls.connect(loop, upstream, dial, self.cluster.stats, name=name, hostname=self.endpoint.hostname)


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
        stats.breakers = (self.breaker, breaker.Breaker(config.high_thresholds, ClusterStats(), "high"))
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

    def inherit(self, old: Cluster) -> None:
        """Begin with what `old`, this cluster before its configuration changed, had found out of the same hosts: there
        is to be no gap until they are found and checked anew.
        """
        if (
            self._resolver is not None
            and old.config.dns is not None
            and old.config.assignment == self.config.assignment
        ):
            self.replace_endpoints(Assignment(tuple(host.endpoint for host in old.hosts), self._rules))
        known = {host.address: host.checked for host in old.hosts if host.checked is not None}
        for host in self.hosts:
            before = known.get(host.address)
            if host.checked is not None and before is not None and not before.is_pending:
                host.checked.is_pending = False
                host.checked.has_failed, host.checked.is_degraded = before.has_failed, before.is_degraded
        self.refresh()

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
        host = pick_untried(self._balancer, tried, attempts, key) if tried else self._balancer.pick(key)
        assert host is None or isinstance(host, Host)
        return host

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
