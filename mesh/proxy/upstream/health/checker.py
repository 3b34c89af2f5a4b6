"""The active health checks of a cluster: one task a host, and what it finds told to the host and to the statistics."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mesh.proxy.upstream.health.session import CheckedHealth, Outcome, Pace, Session

if TYPE_CHECKING:
    from mesh.proxy.observe.upstream_counters import HealthCheckStats
    from mesh.proxy.upstream.cluster import Cluster
    from mesh.proxy.upstream.host import Host

_PASSED = frozenset((Outcome.PASSED, Outcome.DEGRADED))


class Probe(Protocol):
    """How one host is asked."""

    async def check(self) -> Outcome:
        """Ask once. Raises OSError where the host cannot be reached or breaks off."""

    def close(self) -> None:
        """Let go of the connection, if one is kept."""


@dataclass(frozen=True, slots=True)
class HealthCheckConfig:
    """`envoy.config.core.v3.HealthCheck`, compiled."""

    pace: Pace
    make_probe: Callable[[Host], Probe]


class HealthChecker:
    """Checks the hosts of one cluster while they belong to it. `changed` is called when a host's health changed."""

    __slots__ = ("_changed", "_cluster", "_config", "_settled", "_stats", "_tasks")

    def __init__(
        self, config: HealthCheckConfig, cluster: Cluster, stats: HealthCheckStats, changed: Callable[[Host], None]
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._stats = stats
        self._changed = changed
        self._tasks: dict[Host, asyncio.Task[None]] = {}
        self._settled = asyncio.Event()

    def replace_hosts(self, hosts: Sequence[Host]) -> None:
        """The cluster's hosts are now these. Raises nothing: checks run in tasks of the worker."""
        for gone in self._tasks.keys() - set(hosts):
            self._tasks.pop(gone).cancel()
        for host in hosts:
            if host not in self._tasks and host.checked is not None:
                self._tasks[host] = self._cluster.spawn(self._run(host, host.checked))
        self._settled.set()  # who waited for a host that is gone
        self._count()

    @property
    def is_settled(self) -> bool:
        """Whether every host that is here has been checked once."""
        return not any(host.checked is not None and host.checked.is_pending for host in self._tasks)

    async def wait_settled(self) -> None:
        """Until every host that is here has been checked once."""
        while not self.is_settled:
            self._settled.clear()
            await self._settled.wait()

    def told_to_fail(self, host: Host) -> None:
        """A response of the host asked for no more traffic (`x-envoy-immediate-health-check-fail`)."""
        checked = host.checked
        if checked is None:
            return
        self._stats.failure += 1
        self._stats.passive_failure += 1
        checked.is_excluded = True
        if not checked.has_failed:
            checked.has_failed = True
            self._count()
            self._changed(host)

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self._settled.set()

    async def _run(self, host: Host, checked: CheckedHealth) -> None:
        pace = self._config.pace
        session = Session(pace, checked)
        probe = self._config.make_probe(host)
        try:
            await asyncio.sleep(random.random() * pace.initial_jitter)
            while True:
                outcome = await self._check(probe, pace.timeout)
                self._record(outcome)
                changed, pause = session.record(outcome, self._cluster.stats.upstream_cx_total > 0)
                if changed:
                    self._count()
                    self._changed(host)
                if not checked.has_failed and outcome in _PASSED and self._cluster.outlier is not None:
                    self._cluster.outlier.passed_check(host.health)
                self._settled.set()
                await asyncio.sleep(pause)
        finally:
            probe.close()

    async def _check(self, probe: Probe, timeout_s: float) -> Outcome:
        self._stats.attempt += 1
        try:
            async with asyncio.timeout(timeout_s):
                return await probe.check()
        except TimeoutError:
            probe.close()
            return Outcome.TIMED_OUT
        except OSError:
            probe.close()
            return Outcome.UNREACHABLE

    def _record(self, outcome: Outcome) -> None:
        stats = self._stats
        if outcome in _PASSED:
            stats.success += 1
            return
        stats.failure += 1
        if outcome in (Outcome.UNREACHABLE, Outcome.TIMED_OUT):
            stats.network_failure += 1

    def _count(self) -> None:
        known = [host.checked for host in self._tasks if host.checked is not None]
        self._stats.healthy = sum(not checked.has_failed for checked in known)
        self._stats.degraded = sum(checked.is_degraded for checked in known)
