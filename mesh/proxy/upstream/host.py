"""A host of a cluster: one endpoint with its health, its pools and its counters, and the way to connect to it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from mesh.proxy.downstream.connection_info import text_of
from mesh.proxy.tls.transport_socket import ClientTls, ServerName
from mesh.proxy.upstream.balancing.member import Locality, Standing
from mesh.proxy.upstream.connect_pool import ConnectPool
from mesh.proxy.upstream.dialling import Dial
from mesh.proxy.upstream.endpoint import EdsHealth, Endpoint
from mesh.proxy.upstream.health.session import CheckedHealth
from mesh.proxy.upstream.outlier import Health
from mesh.proxy.upstream.pools import HostPool, make_pool

if TYPE_CHECKING:
    from mesh.proxy.http.codec import Requester
    from mesh.proxy.upstream.cluster import Cluster

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
        self.address = text_of((endpoint.ip, endpoint.port))
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
        self.address = text_of((endpoint.ip, endpoint.port))

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
