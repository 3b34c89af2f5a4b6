"""Counters and histograms of Istio's names, and their Prometheus text."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import add

from mesh.telemetry.records import Labels, Record

BUCKETS = (
    *(0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000),
    *(300000, 600000, 1800000, 3600000),
)
"""Upper bounds, inclusive; milliseconds for durations, bytes for sizes. Source: Envoy's default histogram buckets."""

_HISTOGRAMS = ("istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes")
_TCP = (
    "istio_tcp_connections_opened_total",
    "istio_tcp_connections_closed_total",
    "istio_tcp_received_bytes_total",
    "istio_tcp_sent_bytes_total",
)
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(slots=True)
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(BUCKETS, value)] += 1
        self.total += value


class IstioMetrics:
    """Adds records up, by their labels.

    A connection has its record when it ends, so it is counted as opened only then.
    """

    def __init__(self) -> None:
        self._requests: dict[Labels, int] = {}
        self._histograms: dict[Labels, tuple[_Histogram, ...]] = {}
        self._connections: dict[Labels, tuple[float, ...]] = {}

    def add(self, record: Record) -> None:
        if record.is_tcp:
            before = self._connections.get(record.labels, (0, 0, 0, 0))
            more = (1, 1, record.request_bytes, record.response_bytes)
            self._connections[record.labels] = tuple(map(add, before, more))
            return
        self._requests[record.labels] = self._requests.get(record.labels, 0) + 1
        histograms = self._histograms.get(record.labels)
        if histograms is None:
            histograms = self._histograms[record.labels] = tuple(_Histogram() for _ in _HISTOGRAMS)
        values = (record.duration_ms, record.request_bytes, record.response_bytes)
        for histogram, value in zip(histograms, values, strict=True):
            histogram.add(value)

    def prometheus(self) -> str:
        """The text exposition format, version 0.0.4."""
        return "".join(f"{line}\n" for line in (*self._request_lines(), *self._connection_lines()))

    def _request_lines(self) -> Iterator[str]:
        if not self._requests:
            return
        yield "# TYPE istio_requests_total counter"
        for labels, count in self._requests.items():
            yield f"istio_requests_total{{{_text(labels)}}} {count}"
        for index, name in enumerate(_HISTOGRAMS):
            yield f"# TYPE {name} histogram"
            for labels, histograms in self._histograms.items():
                yield from _histogram_lines(name, _text(labels), histograms[index])

    def _connection_lines(self) -> Iterator[str]:
        for index, name in enumerate(_TCP if self._connections else ()):
            yield f"# TYPE {name} counter"
            for labels, values in self._connections.items():
                yield f"{name}{{{_text(labels)}}} {values[index]:.0f}"


def _histogram_lines(name: str, labels: str, histogram: _Histogram) -> Iterator[str]:
    so_far = 0
    for bound, count in zip((*BUCKETS, None), histogram.counts, strict=True):
        so_far += count
        yield f'{name}_bucket{{{labels},le="{"+Inf" if bound is None else f"{bound:g}"}"}} {so_far}'
    yield f"{name}_sum{{{labels}}} {histogram.total:g}"
    yield f"{name}_count{{{labels}}} {so_far}"


def _text(labels: Labels) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels)
