"""Outlier detection: hosts that keep failing are ejected for a while, then tried again (all of Envoy's detectors).

The three states people know of a circuit breaker are here too: closed (in the list), open (ejected until its time is
up), half-open (back in the list, but its next run of failures ejects it for longer).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mesh.proxy.observe.upstream_counters import ClusterStats
from mesh.proxy.upstream.success_rate import Comparison, Tally, Verdict, compare


@dataclass(frozen=True, slots=True)
class OutlierConfig:
    """`envoy.config.cluster.v3.OutlierDetection`, times in seconds, defaults Envoy's."""

    consecutive_5xx: int = 5
    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    max_ejection_time_jitter: float = 0.0
    max_ejection_percent: int = 10
    enforcing_consecutive_5xx: int = 100
    consecutive_gateway_failure: int = 5
    enforcing_consecutive_gateway_failure: int = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failure: int = 5
    enforcing_consecutive_local_origin_failure: int = 100
    always_eject_one_host: bool = False
    comparison: Comparison = field(default_factory=Comparison)
    enforcing_success_rate: int = 100
    enforcing_failure_percentage: int = 0
    enforcing_local_origin_success_rate: int = 100
    enforcing_failure_percentage_local_origin: int = 0
    returns_after_check: bool = True  # successful_active_health_check_uneject_host


class Health:
    """What outlier detection knows of one host."""

    __slots__ = (
        "backoff", "consecutive_5xx", "consecutive_gateway", "consecutive_local", "ejected", "ejected_at",
        "ejections", "jitter", "last_unejected_at", "local", "remote",
    )  # fmt: skip

    def __init__(self) -> None:
        self.consecutive_5xx = self.consecutive_gateway = self.consecutive_local = 0
        self.remote = Tally()  # of responses; of everything where local failures are not split off
        self.local = Tally()
        self.ejected = False
        self.ejected_at = self.jitter = 0.0
        self.last_unejected_at: float | None = None
        self.ejections = 0  # ever
        self.backoff = 0  # multiplies the ejection time; falls again while the host behaves


class OutlierDetector:
    """Detector of one cluster. `changed` is called when a host was ejected or came back.

    `clock` gives monotonic seconds: ejection times are this class's subject, so time is handed in.
    """

    __slots__ = ("_changed", "_clock", "config", "hosts", "local", "remote", "stats")

    def __init__(
        self, config: OutlierConfig, stats: ClusterStats, clock: Callable[[], float], changed: Callable[[], None]
    ) -> None:
        self.config = config
        self.stats = stats
        self.hosts: Sequence[Health] = ()
        self.remote = self.local = Verdict()  # of the last interval
        self._clock = clock
        self._changed = changed

    def replace_hosts(self, hosts: Sequence[Health]) -> None:
        """The cluster's hosts are now these; ejected ones stay ejected."""
        self.hosts = hosts
        self.stats.outlier_detection__ejections_active = sum(host.ejected for host in hosts)

    def responded(self, host: Health, status: int) -> None:
        """The host answered with `status`."""
        if self.config.split_external_local_origin_errors:
            self._reached(host)
        host.remote.total += 1
        if status < 500:
            host.remote.good += 1
            host.consecutive_5xx = host.consecutive_gateway = 0
            return
        if status in (502, 503, 504):
            host.consecutive_gateway += 1
            if host.consecutive_gateway == self.config.consecutive_gateway_failure:
                self._detected(host, "consecutive_gateway_failure", self.config.enforcing_consecutive_gateway_failure)
                host.consecutive_gateway = 0
        else:
            host.consecutive_gateway = 0
        host.consecutive_5xx += 1
        if host.consecutive_5xx == self.config.consecutive_5xx:
            self._detected(host, "consecutive_5xx", self.config.enforcing_consecutive_5xx)
            host.consecutive_5xx = 0

    def failed_locally(self, host: Health, status: int, *, was_connected: bool = False) -> None:
        """No answer came (connect failure, reset, timeout); `status` is what the client is told instead."""
        if not self.config.split_external_local_origin_errors:
            self.responded(host, status)
            return
        if was_connected:
            self._reached(host)
        host.local.total += 1
        host.consecutive_local += 1
        if host.consecutive_local == self.config.consecutive_local_origin_failure:
            self._detected(
                host, "consecutive_local_origin_failure", self.config.enforcing_consecutive_local_origin_failure
            )
            host.consecutive_local = 0

    def passed_check(self, host: Health) -> None:
        """An active health check of the host succeeded."""
        if host.ejected and self.config.returns_after_check:
            self._return(host, self._clock())
            self._changed()

    def sweep(self) -> None:
        """To be called each `interval`: bring back the hosts whose time is up, and compare the others."""
        now = self._clock()
        returned = False
        for host in self.hosts:
            if not host.ejected:
                host.backoff = max(0, host.backoff - 1)
            elif now >= host.ejected_at + self.ejection_time(host) + host.jitter:
                self._return(host, now)
                returned = True
        if returned:
            self._changed()
        config = self.config
        self.remote = self._compare("", config.enforcing_success_rate, config.enforcing_failure_percentage)
        if config.split_external_local_origin_errors:
            enforcing = config.enforcing_local_origin_success_rate
            self.local = self._compare("local_origin_", enforcing, config.enforcing_failure_percentage_local_origin)

    def ejection_time(self, host: Health) -> float:
        """Seconds that the host's present ejection lasts, without jitter."""
        config = self.config
        longest = max(config.max_ejection_time, config.base_ejection_time)
        return min(config.base_ejection_time * host.backoff, longest)

    def _reached(self, host: Health) -> None:
        host.consecutive_local = 0
        host.local.total += 1
        host.local.good += 1

    def _compare(self, origin: str, enforcing_rate: int, enforcing_failures: int) -> Verdict:
        hosts = self.hosts
        tallies = [host.local if origin else host.remote for host in hosts]
        ejected = frozenset(at for at, host in enumerate(hosts) if host.ejected)
        verdict = compare(tallies, ejected, self.config.comparison)
        for at in verdict.slow:
            self._detected(hosts[at], f"{origin}success_rate", enforcing_rate)
        for at in verdict.failing:
            self._detected(hosts[at], f"{origin}failure_percentage", enforcing_failures)
        return verdict

    def _detected(self, host: Health, kind: str, enforcing: int) -> None:
        if host.ejected:
            return
        self._count(f"outlier_detection__ejections_detected_{kind}")
        if not self._may_eject():
            self.stats.outlier_detection__ejections_overflow += 1
            return
        if random.random() * 100 >= enforcing:
            return
        self._count(f"outlier_detection__ejections_enforced_{kind}")
        self._eject(host)

    def _may_eject(self) -> bool:
        active = self.stats.outlier_detection__ejections_active
        if self.config.always_eject_one_host and active == 0:
            return True
        return 100.0 * (active + 1) / len(self.hosts) <= self.config.max_ejection_percent

    def _eject(self, host: Health) -> None:
        self.stats.outlier_detection__ejections_enforced_total += 1
        self.stats.outlier_detection__ejections_active += 1
        host.ejected = True
        host.ejected_at = self._clock()
        host.jitter = random.random() * self.config.max_ejection_time_jitter
        host.ejections += 1
        if (
            host.backoff * self.config.base_ejection_time
            < self.config.max_ejection_time + self.config.base_ejection_time
        ):
            host.backoff += 1
        self._changed()

    def _return(self, host: Health, now: float) -> None:
        self.stats.outlier_detection__ejections_active -= 1
        host.ejected = False
        host.last_unejected_at = now
        host.consecutive_5xx = host.consecutive_gateway = host.consecutive_local = 0

    def _count(self, name: str) -> None:
        setattr(self.stats, name, getattr(self.stats, name) + 1)
