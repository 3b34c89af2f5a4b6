"""Counters, gauges and histograms: plain integers on the hot path, named only when somebody scrapes.

How to read them (for whoever renders them):

- `Stats.snapshot()` gives a list of `Sample`: plain tuples of strings, numbers and tuples, to be pickled or sent as
  JSON between processes. `merge(snapshots)` adds several up (counters, gauges and histogram buckets by name).
- `Sample.name` is Envoy's full name (`cluster.outbound|9080||reviews.default.svc.cluster.local.upstream_rq_total`),
  `Sample.base` the name after Envoy's tag extraction (`cluster.upstream_rq_total`) and `Sample.tags` the extracted tags
  (`(("envoy.cluster_name", "outbound|9080||..."),)`). Prometheus' name is `envoy_` + base with every character outside
  `[a-zA-Z0-9_]` made `_`; tag names likewise. A sample whose `is_plain` is true (`istio_requests_total`) has no
  `envoy_` prefix, its base is the metric's name and its tags are its labels; Envoy's text page knows no such metrics.
- `Sample.kind` is "counter", "gauge" or "histogram". `value` is an int, or for a histogram
  `(count, sum, ((upper_bound, cumulative_count), ...))` without the +Inf bucket, whose count is `count`.

How to add to them: a group of counters is a dataclass whose integer fields are Envoy's names with `.` written `__`.
Take one with `Stats.group(cls, prefix, tags)`; the same prefix gives the same object back, so counters outlive updates.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Any, ClassVar, NamedTuple, TypeVar

Tags = tuple[tuple[str, str], ...]
HistogramValue = tuple[int, float, tuple[tuple[float, int], ...]]

ENVOY_BUCKETS: tuple[float, ...] = (
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6, 3.6e6,
)  # fmt: skip


class Sample(NamedTuple):
    """One number at one moment; see the module's docstring."""

    name: str
    base: str
    tags: Tags
    kind: str
    value: int | HistogramValue
    is_plain: bool = False


class Histogram:
    """Counts by bucket. `bounds` are inclusive upper bounds, as Prometheus has them; floats find their bucket in half
    the time that mixed numbers take.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = ENVOY_BUCKETS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total: float = 0

    def record(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def value(self) -> HistogramValue:
        running = list(accumulate(self.counts))
        return running[-1], self.total, tuple(zip(self.bounds, running, strict=False))


class Codes:
    """Responses by status code, from which Envoy's `_2xx`, `_503` and `_completed` counters follow."""

    __slots__ = ("by_status",)

    def __init__(self) -> None:
        self.by_status: dict[int, int] = {}

    def count(self, status: int) -> None:
        try:
            self.by_status[status] += 1
        except KeyError:
            self.by_status[status] = 1

    def classes(self) -> dict[int, int]:
        totals = dict.fromkeys(range(1, 6), 0)
        for status, count in self.by_status.items():
            if status // 100 in totals:
                totals[status // 100] += count
        return totals


@dataclass(slots=True, eq=False)
class Group:
    """Base of groups of counters. `GAUGES` names the integer fields that are gauges."""

    GAUGES: ClassVar[frozenset[str]] = frozenset()

    def samples(self) -> Iterator[tuple[str, str, int | HistogramValue, Tags]]:
        """(Envoy's name without the prefix, kind, value, more tags) of everything in the group."""
        for slot in fields(self):
            if slot.metadata.get("hidden"):
                continue
            value: Any = getattr(self, slot.name)
            name = slot.name.replace("__", ".")
            if isinstance(value, int):
                yield name, "gauge" if slot.name in self.GAUGES else "counter", value, ()
            elif isinstance(value, Histogram):
                yield name, "histogram", value.value(), ()

    def reset_counters(self) -> None:
        """Set every counter to 0, as `/reset_counters` asks; gauges and histograms stay."""
        for slot in fields(self):
            if slot.metadata.get("hidden"):
                continue
            value: Any = getattr(self, slot.name)
            if isinstance(value, Codes):
                value.by_status.clear()
            elif isinstance(value, int) and slot.name not in self.GAUGES:
                setattr(self, slot.name, 0)


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
    upstream_rq_max_duration_reached: int = 0
    upstream_rq_rx_reset: int = 0
    upstream_rq_tx_reset: int = 0
    upstream_rq_retry: int = 0
    upstream_rq_retry_success: int = 0
    upstream_rq_retry_overflow: int = 0
    upstream_rq_retry_limit_exceeded: int = 0
    upstream_rq_retry_backoff_exponential: int = 0
    retry_or_shadow_abandoned: int = 0
    upstream_flow_control_paused_reading_total: int = 0
    upstream_flow_control_resumed_reading_total: int = 0
    membership_change: int = 0
    membership_total: int = 0
    membership_healthy: int = 0
    membership_degraded: int = 0
    membership_excluded: int = 0
    lb_healthy_panic: int = 0
    lb_zone_cluster_too_small: int = 0
    update_attempt: int = 0
    update_success: int = 0
    update_empty: int = 0
    outlier_detection__ejections_active: int = 0
    outlier_detection__ejections_enforced_total: int = 0
    outlier_detection__ejections_overflow: int = 0
    outlier_detection__ejections_detected_consecutive_5xx: int = 0
    outlier_detection__ejections_enforced_consecutive_5xx: int = 0
    outlier_detection__ejections_detected_consecutive_gateway_failure: int = 0
    outlier_detection__ejections_enforced_consecutive_gateway_failure: int = 0
    outlier_detection__ejections_detected_consecutive_local_origin_failure: int = 0
    outlier_detection__ejections_enforced_consecutive_local_origin_failure: int = 0
    ssl__handshake: int = 0
    ssl__connection_error: int = 0
    ssl__session_reused: int = 0
    ssl__fail_verify_error: int = 0
    ssl__fail_verify_san: int = 0
    ssl__fail_verify_no_cert: int = 0
    upstream_rq_time: Histogram = field(default_factory=Histogram)
    upstream_cx_connect_ms: Histogram = field(default_factory=Histogram)
    upstream_cx_length_ms: Histogram = field(default_factory=Histogram)
    codes: Codes = field(default_factory=Codes)
    retry_codes: Codes = field(default_factory=Codes)
    retries_active: int = field(default=0, metadata={"hidden": True})
    limits: tuple[int, int, int, int] = (0, 0, 0, 0)  # connections, pending, requests, retries: set by the breaker

    def samples(self) -> Iterator[tuple[str, str, int | HistogramValue, Tags]]:
        yield from Group.samples(self)
        yield from _code_samples(self.codes, "upstream_rq")
        yield from _code_samples(self.retry_codes, "retry.upstream_rq")
        in_use = (
            self.upstream_cx_active, self.upstream_rq_pending_active, self.upstream_rq_active, self.retries_active
        )  # fmt: skip
        for name, used, limit in zip(("cx", "rq_pending", "rq", "rq_retry"), in_use, self.limits, strict=True):
            yield f"circuit_breakers.default.{name}_open", "gauge", int(used >= limit), ()


@dataclass(slots=True, eq=False)
class HttpStats(Group):
    """`http.<stat_prefix>.*`"""

    GAUGES: ClassVar[frozenset[str]] = frozenset(
        {"downstream_cx_active", "downstream_rq_active", "downstream_cx_ssl_active", "downstream_cx_http1_active",
         "fault__active_faults"}
    )  # fmt: skip

    downstream_cx_total: int = 0
    downstream_cx_active: int = 0
    downstream_cx_http1_total: int = 0
    downstream_cx_http1_active: int = 0
    downstream_cx_ssl_total: int = 0
    downstream_cx_ssl_active: int = 0
    downstream_cx_destroy: int = 0
    downstream_cx_destroy_local: int = 0
    downstream_cx_destroy_remote: int = 0
    downstream_cx_destroy_active_rq: int = 0
    downstream_cx_destroy_local_active_rq: int = 0
    downstream_cx_destroy_remote_active_rq: int = 0
    downstream_cx_drain_close: int = 0
    downstream_cx_idle_timeout: int = 0
    downstream_cx_protocol_error: int = 0
    downstream_cx_rx_bytes_total: int = 0
    downstream_cx_tx_bytes_total: int = 0
    downstream_cx_delayed_close_timeout: int = 0
    downstream_flow_control_paused_reading_total: int = 0
    downstream_flow_control_resumed_reading_total: int = 0
    downstream_rq_total: int = 0
    downstream_rq_active: int = 0
    downstream_rq_rx_reset: int = 0
    downstream_rq_tx_reset: int = 0
    downstream_rq_timeout: int = 0
    downstream_rq_idle_timeout: int = 0
    downstream_rq_header_timeout: int = 0
    downstream_rq_response_before_rq_complete: int = 0
    downstream_rq_non_relative_path: int = 0
    downstream_rq_too_large: int = 0
    no_route: int = 0
    no_cluster: int = 0
    rq_total: int = 0
    rq_direct_response: int = 0
    rq_redirect: int = 0
    rq_reset_after_downstream_response_started: int = 0
    fault__aborts_injected: int = 0
    fault__delays_injected: int = 0
    fault__faults_overflow: int = 0
    fault__active_faults: int = 0
    downstream_rq_time: Histogram = field(default_factory=Histogram)
    downstream_cx_length_ms: Histogram = field(default_factory=Histogram)
    codes: Codes = field(default_factory=Codes)

    def samples(self) -> Iterator[tuple[str, str, int | HistogramValue, Tags]]:
        yield from Group.samples(self)
        yield "downstream_rq_http1_total", "counter", self.downstream_rq_total, ()
        classes = self.codes.classes()
        yield "downstream_rq_completed", "counter", sum(classes.values()), ()
        for first, count in classes.items():
            yield f"downstream_rq_{first}xx", "counter", count, ()


@dataclass(slots=True, eq=False)
class ListenerStats(Group):
    """`listener.<address>.*`"""

    GAUGES: ClassVar[frozenset[str]] = frozenset({"downstream_cx_active", "downstream_pre_cx_active"})

    downstream_cx_total: int = 0
    downstream_cx_active: int = 0
    downstream_cx_destroy: int = 0
    downstream_pre_cx_active: int = 0
    downstream_pre_cx_timeout: int = 0
    downstream_listener_filter_remote_close: int = 0
    no_filter_chain_match: int = 0
    ssl__handshake: int = 0
    ssl__connection_error: int = 0
    ssl__session_reused: int = 0
    ssl__no_certificate: int = 0
    ssl__fail_verify_error: int = 0
    ssl__fail_verify_san: int = 0
    ssl__fail_verify_no_cert: int = 0
    server_ssl_socket_factory__downstream_context_secrets_not_ready: int = 0


@dataclass(slots=True, eq=False)
class TcpStats(Group):
    """`tcp.<stat_prefix>.*`"""

    GAUGES: ClassVar[frozenset[str]] = frozenset({"downstream_cx_active", "upstream_flush_active"})

    downstream_cx_total: int = 0
    downstream_cx_active: int = 0
    downstream_cx_no_route: int = 0
    downstream_cx_rx_bytes_total: int = 0
    downstream_cx_tx_bytes_total: int = 0
    downstream_flow_control_paused_reading_total: int = 0
    downstream_flow_control_resumed_reading_total: int = 0
    idle_timeout: int = 0
    max_downstream_connection_duration: int = 0
    upstream_flush_active: int = 0
    upstream_flush_total: int = 0


def _code_samples(codes: Codes, name: str) -> Iterator[tuple[str, str, int, Tags]]:
    if not codes.by_status:
        return
    classes = codes.classes()
    yield f"{name}_completed", "counter", sum(classes.values()), ()
    for first, count in classes.items():
        if count:
            yield f"{name}_{first}xx", "counter", count, ()
    for status, count in codes.by_status.items():
        yield f"{name}_{status}", "counter", count, ()


class Labelled:
    """One metric with labels of its own (`istio_requests_total`): values by label values, in the order of `labels`."""

    __slots__ = ("bounds", "kind", "labels", "name", "series")

    def __init__(self, name: str, kind: str, labels: tuple[str, ...]) -> None:
        self.name = name
        self.kind = kind
        self.labels = labels
        self.series: dict[tuple[str, ...], list[int] | Histogram] = {}

    def counter(self, values: tuple[str, ...]) -> list[int]:
        """The one-element cell of these label values; made at first mention."""
        cell = self.series.get(values)
        if not isinstance(cell, list):
            cell = self.series[values] = [0]
        return cell

    def histogram(self, values: tuple[str, ...]) -> Histogram:
        cell = self.series.get(values)
        if not isinstance(cell, Histogram):
            cell = self.series[values] = Histogram()
        return cell

    def samples(self) -> Iterator[Sample]:
        for values, cell in self.series.items():
            value = cell.value() if isinstance(cell, Histogram) else cell[0]
            tags = tuple(zip(self.labels, values, strict=True))
            yield Sample(self.name, self.name, tags, self.kind, value, True)


GroupT = TypeVar("GroupT", bound=Group)


class Stats:
    """Every counter of one worker."""

    def __init__(self) -> None:
        self._groups: dict[str, tuple[Group, str, Tags]] = {}
        self._labelled: dict[str, Labelled] = {}

    def group(self, cls: type[GroupT], prefix: str, tags: Tags = ()) -> GroupT:
        """The group at `prefix` (`cluster.reviews`); `tags` name the parts of the prefix that Envoy extracts."""
        known = self._groups.get(prefix)
        if known is not None and isinstance(known[0], cls):
            return known[0]
        group = cls()
        self._groups[prefix] = (group, _extract(prefix, tags), tags)
        return group

    def drop(self, prefix: str) -> None:
        """Forget a group, as Envoy forgets the counters of a removed cluster."""
        self._groups.pop(prefix, None)

    def labelled(self, name: str, kind: str, labels: tuple[str, ...]) -> Labelled:
        known = self._labelled.get(name)
        if known is None:
            known = self._labelled[name] = Labelled(name, kind, labels)
        return known

    def reset_counters(self) -> None:
        """Set every counter to 0; those who hold a group or a cell keep counting in it."""
        for group, _, _ in self._groups.values():
            group.reset_counters()
        for labelled in self._labelled.values():
            for cell in labelled.series.values():
                if isinstance(cell, list):
                    cell[0] = 0

    def snapshot(self) -> list[Sample]:
        samples = []
        for prefix, (group, base, tags) in self._groups.items():
            for name, kind, value, more in group.samples():
                samples.append(Sample(f"{prefix}.{name}", f"{base}.{name}", (*tags, *more), kind, value))
        for labelled in self._labelled.values():
            samples.extend(labelled.samples())
        return samples


def _extract(prefix: str, tags: Tags) -> str:
    for _, value in tags:
        prefix = prefix.replace(f".{value}", "", 1)
    return prefix


def merge(snapshots: Iterable[Iterable[Sample]]) -> list[Sample]:
    """Add up the snapshots of several workers."""
    merged: dict[tuple[str, Tags], Sample] = {}
    for snapshot in snapshots:
        for item in snapshot:
            sample = Sample(*item)
            key = (sample.name, sample.tags)
            before = merged.get(key)
            merged[key] = sample if before is None else before._replace(value=_add(before.value, sample.value))
    return list(merged.values())


def _add(one: int | HistogramValue, two: int | HistogramValue) -> int | HistogramValue:
    if isinstance(one, tuple) and isinstance(two, tuple):
        buckets = tuple((bound, a + b) for (bound, a), (_, b) in zip(one[2], two[2], strict=True))
        return one[0] + two[0], one[1] + two[1], buckets
    if isinstance(one, int) and isinstance(two, int):
        return one + two
    raise TypeError("a histogram cannot be added to a number")
