"""What the operations side asks of the data path, whether it runs in this process or in workers."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mesh.proxy.observe.stats import Sample
from mesh.proxy.resources import Resources


class HostStatus(NamedTuple):
    """One endpoint of a cluster as `/clusters` shows it. `health_flags` are Envoy's names of what is wrong with it."""

    address: str
    port: int
    hostname: str
    weight: int
    health_flags: tuple[str, ...]
    locality: tuple[str, str, str]
    is_canary: bool
    priority: int
    success_rate: float
    local_origin_success_rate: float
    cx_active: int
    cx_connect_fail: int
    cx_total: int
    rq_active: int
    rq_error: int
    rq_pending_active: int
    rq_success: int
    rq_timeout: int
    rq_total: int


class Thresholds(NamedTuple):
    """Circuit-breaker limits of a priority."""

    max_connections: int
    max_pending_requests: int
    max_requests: int
    max_retries: int


class OutlierStatus(NamedTuple):
    """What outlier detection by success rate found in its last interval, in percent; -1 where it could not tell."""

    average: float
    threshold: float
    local_average: float
    local_threshold: float


class ClusterStatus(NamedTuple):
    """One cluster that serves."""

    name: str
    thresholds: Thresholds
    high_thresholds: Thresholds
    outlier: OutlierStatus | None
    hosts: tuple[HostStatus, ...]


class ListenerStatus(NamedTuple):
    """One listener that is bound: its own address, then its additional ones, as (ip, port)."""

    name: str
    addresses: tuple[tuple[str, int], ...]


class DataPlane(Protocol):
    """The data path as one thing."""

    async def run(self) -> None:
        """Look after the data path; returns, or is cancelled, when there is nothing to look after any more."""

    async def check(self, resources: Resources) -> None:
        """Raise Refused if `resources` could not be served; change nothing."""

    async def apply(self, resources: Resources) -> None:
        """Serve `resources` from now on, or raise Refused and change nothing. Clusters may have to warm afterwards."""

    async def wait_warming(self, known: frozenset[str] | None) -> frozenset[str]:
        """Names of the clusters that wait for their first hosts or health checks while what they replace serves: as
        soon as they are others than `known`, or at once without it.
        """

    async def samples(self) -> list[Sample]: ...
    async def clusters(self) -> list[ClusterStatus]: ...
    async def listeners(self) -> list[ListenerStatus]: ...
    async def reset_counters(self) -> None: ...
    async def reopen_logs(self) -> None:
        """Open the access logs anew by their paths: somebody has moved the files away."""

    async def fail(self, is_failing: bool) -> None:
        """The server fails its health checks, or no longer: responses end their connections meanwhile (drain_type)."""

    async def drain(self, *, inbound_only: bool = False, keeps_accepting: bool = False) -> None:
        """Ask clients to leave: no new connections, `connection: close` on what is answered. `inbound_only` leaves
        listeners of other directions alone; `keeps_accepting` only asks.
        """

    async def close(self, grace_s: float) -> None:
        """Wait for requests in flight for at most `grace_s` seconds, then end."""
