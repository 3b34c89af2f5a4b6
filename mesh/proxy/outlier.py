"""Outlier detection: hosts that keep failing are ejected for a while, then tried again (Envoy's consecutive detectors).

The three states people know of a circuit breaker are here too: closed (in the list), open (ejected until its time is
up), half-open (back in the list, but its next run of failures ejects it for longer).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mesh.proxy.counters import ClusterStats


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


class Health:
    """What outlier detection knows of one host."""

    __slots__ = (
        "backoff", "consecutive_5xx", "consecutive_gateway", "consecutive_local", "ejected", "ejected_at",
        "ejections", "jitter", "last_unejected_at",
    )  # fmt: skip

    def __init__(self) -> None:
        self.consecutive_5xx = self.consecutive_gateway = self.consecutive_local = 0
        self.ejected = False
        self.ejected_at = self.jitter = 0.0
        self.last_unejected_at: float | None = None
        self.ejections = 0  # ever
        self.backoff = 0  # multiplies the ejection time; falls again while the host behaves


class OutlierDetector:
    """Detector of one cluster. `changed` is called when a host was ejected or came back.

    `clock` gives monotonic seconds: ejection times are this class's subject, so time is handed in.
    """

    __slots__ = ("_changed", "_clock", "config", "hosts", "stats")

    def __init__(
        self, config: OutlierConfig, stats: ClusterStats, clock: Callable[[], float], changed: Callable[[], None]
    ) -> None:
        self.config = config
        self.stats = stats
        self.hosts: Sequence[Health] = ()
        self._clock = clock
        self._changed = changed

    def replace_hosts(self, hosts: Sequence[Health]) -> None:
        """The cluster's hosts are now these; ejected ones stay ejected."""
        self.hosts = hosts
        self.stats.outlier_detection__ejections_active = sum(host.ejected for host in hosts)

    def responded(self, host: Health, status: int) -> None:
        """The host answered with `status`."""
        if self.config.split_external_local_origin_errors:
            host.consecutive_local = 0
        if status < 500:
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

    def failed_locally(self, host: Health, status: int) -> None:
        """No answer came (connect failure, reset, timeout); `status` is what the client is told instead."""
        if not self.config.split_external_local_origin_errors:
            self.responded(host, status)
            return
        host.consecutive_local += 1
        if host.consecutive_local == self.config.consecutive_local_origin_failure:
            self._detected(
                host, "consecutive_local_origin_failure", self.config.enforcing_consecutive_local_origin_failure
            )
            host.consecutive_local = 0

    def sweep(self) -> None:
        """To be called each `interval`: bring back the hosts whose time is up."""
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

    def ejection_time(self, host: Health) -> float:
        """Seconds that the host's present ejection lasts, without jitter."""
        config = self.config
        longest = max(config.max_ejection_time, config.base_ejection_time)
        return min(config.base_ejection_time * host.backoff, longest)

    def _detected(self, host: Health, kind: str, enforcing: int) -> None:
        if host.ejected:
            return
        self._count(f"outlier_detection__ejections_detected_{kind}")
        if random.random() * 100 >= enforcing:
            return
        if not self._may_eject():
            self.stats.outlier_detection__ejections_overflow += 1
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
