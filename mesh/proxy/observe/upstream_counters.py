"""What Envoy counts of the servers' side: clusters and their health checks, under Envoy's names.

A table and no more: how they are counted in and read is `stats`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from mesh.proxy.observe.stats import Codes, Group, Histogram, HistogramValue, Tags

if TYPE_CHECKING:
    from mesh.proxy.http2.stats import Http2Stats


class Gauges(Protocol):
    """Numbers that are read elsewhere when somebody asks."""

    def gauges(self) -> Iterator[tuple[str, int]]: ...


@dataclass(slots=True, eq=False)
class HealthCheckStats(Group):
    """`cluster.<name>.health_check.*`"""

    GAUGES: ClassVar[frozenset[str]] = frozenset({"healthy", "degraded"})

    attempt: int = 0
    success: int = 0
    failure: int = 0
    passive_failure: int = 0
    network_failure: int = 0
    verify_cluster: int = 0
    healthy: int = 0
    degraded: int = 0


@dataclass(slots=True, eq=False)
class ClusterStats(Group):
    """`cluster.<name>.*`"""

    GAUGES: ClassVar[frozenset[str]] = frozenset(
        {
            "upstream_cx_active", "upstream_rq_active", "upstream_rq_pending_active", "membership_total",
            "membership_healthy", "membership_degraded", "membership_excluded", "outlier_detection__ejections_active",
        }
    )  # fmt: skip

    upstream_cx_total: int = 0
    upstream_cx_active: int = 0
    upstream_cx_http1_total: int = 0
    upstream_cx_http2_total: int = 0
    upstream_cx_connect_fail: int = 0
    upstream_cx_connect_timeout: int = 0
    upstream_cx_connect_attempts_exceeded: int = 0
    upstream_cx_overflow: int = 0
    upstream_cx_destroy: int = 0
    upstream_cx_destroy_local: int = 0
    upstream_cx_destroy_remote: int = 0
    upstream_cx_destroy_with_active_rq: int = 0
    upstream_cx_destroy_local_with_active_rq: int = 0
    upstream_cx_destroy_remote_with_active_rq: int = 0
    upstream_cx_close_notify: int = 0
    upstream_cx_rx_bytes_total: int = 0
    upstream_cx_tx_bytes_total: int = 0
    upstream_cx_protocol_error: int = 0
    upstream_cx_max_requests: int = 0
    upstream_cx_max_duration_reached: int = 0
    upstream_cx_idle_timeout: int = 0
    upstream_cx_none_healthy: int = 0
    upstream_rq_total: int = 0
    upstream_rq_active: int = 0
    upstream_rq_pending_total: int = 0
    upstream_rq_pending_active: int = 0
    upstream_rq_pending_overflow: int = 0
    upstream_rq_active_overflow: int = 0
    upstream_rq_pending_failure_eject: int = 0
    upstream_rq_cancelled: int = 0
    upstream_rq_maintenance_mode: int = 0
    upstream_rq_timeout: int = 0
    upstream_rq_per_try_timeout: int = 0
    upstream_rq_per_try_idle_timeout: int = 0
    upstream_rq_max_duration_reached: int = 0
    upstream_rq_rx_reset: int = 0
    upstream_rq_tx_reset: int = 0
    upstream_rq_retry: int = 0
    upstream_rq_retry_success: int = 0
    upstream_rq_retry_overflow: int = 0
    upstream_rq_retry_limit_exceeded: int = 0
    upstream_rq_retry_backoff_exponential: int = 0
    upstream_rq_retry_backoff_ratelimited: int = 0
    retry_or_shadow_abandoned: int = 0
    upstream_flow_control_paused_reading_total: int = 0
    upstream_flow_control_resumed_reading_total: int = 0
    membership_change: int = 0
    membership_total: int = 0
    membership_healthy: int = 0
    membership_degraded: int = 0
    membership_excluded: int = 0
    lb_healthy_panic: int = 0
    original_dst_host_invalid: int = 0
    lb_zone_cluster_too_small: int = 0
    update_attempt: int = 0
    update_success: int = 0
    update_failure: int = 0
    update_empty: int = 0
    update_no_rebuild: int = 0
    outlier_detection__ejections_active: int = 0
    outlier_detection__ejections_enforced_total: int = 0
    outlier_detection__ejections_overflow: int = 0
    outlier_detection__ejections_detected_consecutive_5xx: int = 0
    outlier_detection__ejections_enforced_consecutive_5xx: int = 0
    outlier_detection__ejections_detected_consecutive_gateway_failure: int = 0
    outlier_detection__ejections_enforced_consecutive_gateway_failure: int = 0
    outlier_detection__ejections_detected_consecutive_local_origin_failure: int = 0
    outlier_detection__ejections_enforced_consecutive_local_origin_failure: int = 0
    outlier_detection__ejections_detected_success_rate: int = 0
    outlier_detection__ejections_enforced_success_rate: int = 0
    outlier_detection__ejections_detected_failure_percentage: int = 0
    outlier_detection__ejections_enforced_failure_percentage: int = 0
    outlier_detection__ejections_detected_local_origin_success_rate: int = 0
    outlier_detection__ejections_enforced_local_origin_success_rate: int = 0
    outlier_detection__ejections_detected_local_origin_failure_percentage: int = 0
    outlier_detection__ejections_enforced_local_origin_failure_percentage: int = 0
    ssl__handshake: int = 0
    ssl__connection_error: int = 0
    ssl__session_reused: int = 0
    ssl__fail_verify_error: int = 0
    ssl__fail_verify_san: int = 0
    ssl__fail_verify_cert_hash: int = 0
    ssl__fail_verify_no_cert: int = 0
    upstream_rq_time: Histogram = field(default_factory=Histogram)
    upstream_cx_connect_ms: Histogram = field(default_factory=Histogram)
    upstream_rq_per_cx: Histogram = field(default_factory=Histogram)
    upstream_cx_length_ms: Histogram = field(default_factory=Histogram)
    codes: Codes = field(default_factory=Codes)
    retry_codes: Codes = field(default_factory=Codes)
    health_check: HealthCheckStats | None = None  # of clusters that have active health checks
    http2: Http2Stats | None = field(default=None, metadata={"hidden": True})  # if any of its hosts speaks it
    retries_active: int = field(default=0, metadata={"hidden": True})
    breakers: tuple[Gauges, ...] = ()
    hash_sizes: tuple[tuple[str, int], ...] = ()  # of clusters that balance by hash

    def samples(self) -> Iterator[tuple[str, str, int | HistogramValue, Tags]]:
        yield from Group.samples(self)
        yield from _code_samples(self.codes, "upstream_rq")
        yield from _code_samples(self.retry_codes, "retry.upstream_rq")
        if self.http2 is not None:
            for name, kind, value, tags in self.http2.samples():
                yield f"http2.{name}", kind, value, tags
        if self.health_check is not None:
            for name, kind, value, tags in self.health_check.samples():
                yield f"health_check.{name}", kind, value, tags
        for name, size in self.hash_sizes:
            yield name, "gauge", size, ()
        for breaker in self.breakers:
            for name, gauge in breaker.gauges():
                yield f"circuit_breakers.{name}", "gauge", gauge, ()

    def reset_counters(self) -> None:
        Group.reset_counters(self)
        if self.health_check is not None:
            self.health_check.reset_counters()


_NO_STATUS = 600  # from here on a status is none that HTTP knows, though it is passed on


def _code_samples(codes: Codes, name: str) -> Iterator[tuple[str, str, int, Tags]]:
    if not codes.by_status:
        return
    classes = codes.classes()
    yield f"{name}_completed", "counter", sum(codes.by_status.values()), ()
    for first, count in classes.items():
        if count:
            yield f"{name}_{first}xx", "counter", count, ()
    for status, count in codes.by_status.items():
        if status < _NO_STATUS:
            yield f"{name}_{status}", "counter", count, ()
    if unknown := sum(count for status, count in codes.by_status.items() if status >= _NO_STATUS):
        yield f"{name}_unknown", "counter", unknown, ()
