"""Counters of neither side: those whose names a configuration makes, and what becomes of spans and log entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mesh.proxy.observe.stats import Group, HistogramValue, Tags


@dataclass(slots=True, eq=False)
class NamedCounters(Group):
    """Counters whose names a configuration makes, beginning with 0 once they are declared."""

    counts: dict[str, int] = field(default_factory=dict, metadata={"hidden": True})

    def declare(self, names: Iterable[str]) -> None:
        for name in names:
            self.counts.setdefault(name, 0)

    def count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def samples(self) -> Iterator[tuple[str, str, int | HistogramValue, Tags]]:
        for name, count in self.counts.items():
            yield name, "counter", count, ()

    def reset_counters(self) -> None:
        self.counts.update(dict.fromkeys(self.counts, 0))


@dataclass(slots=True, eq=False)
class TracingStats(Group):
    """What becomes of spans on the way to their collector."""

    spans_sent: int = 0
    timer_flushed: int = 0
    reports_sent: int = 0
    reports_failed: int = 0
    reports_dropped: int = 0
    reports_skipped_no_cluster: int = 0

    def dropped(self, spans: int) -> None:
        """A report of so many spans is not sent, as too many are under way."""
        self.reports_dropped += 1


@dataclass(slots=True, eq=False)
class ZipkinStats(TracingStats):
    """`tracing.zipkin.*`"""


@dataclass(slots=True, eq=False)
class OpenTelemetryStats(TracingStats):
    """`tracing.opentelemetry.*`"""

    spans_dropped: int = 0

    def dropped(self, spans: int) -> None:
        self.spans_dropped += spans


@dataclass(slots=True, eq=False)
class LogServiceStats(Group):
    """`access_logs.grpc_access_log.*`: entries taken, and entries that no service got."""

    logs_written: int = 0
    logs_dropped: int = 0
