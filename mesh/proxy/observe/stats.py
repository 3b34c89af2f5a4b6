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

How to add to them: a group of counters (`counters`) is a dataclass whose integer fields are Envoy's names with `.`
written `__`.
Take one with `Stats.group(cls, prefix, tags)`; the same prefix gives the same object back, so counters outlive updates.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
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
        self._labelled: dict[tuple[str, tuple[str, ...]], Labelled] = {}

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
        known = self._labelled.get((name, labels))
        if known is None:
            known = self._labelled[name, labels] = Labelled(name, kind, labels)
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
