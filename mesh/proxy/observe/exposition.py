"""Renders samples as Envoy's `/stats` does: text, JSON and Prometheus.

MUST NOT do I/O or know where the samples come from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any

from mesh.proxy.observe.stats import HistogramValue, Sample, Tags

_QUANTILES = (0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100)
SUMMARIES = ("summary", "none")  # the values of `histogram_buckets` that ask for quantiles
_Shown = Callable[[str, str, HistogramValue], Iterator[str]]
_UNFIT = re.compile(r"[^a-zA-Z0-9_:]")
_CODE = re.compile(r"^(?P<stem>.*_rq)_(?:(?P<group>[1-5])xx|(?P<code>\d{3}))$")


def select(samples: Iterable[Sample], *, used_only: bool, matches: Callable[[str], object] | None) -> list[Sample]:
    """The samples whose name `matches`, and of these with `used_only` those that have ever been counted."""
    return [
        sample
        for sample in samples
        if (matches is None or matches(sample.name)) and (not used_only or _is_used(sample))
    ]


def text(samples: Iterable[Sample], buckets: str = "summary") -> str:
    """`name: value` lines sorted by name, then histograms: their quantiles, or their counts with `buckets` `cumulative`
    or `disjoint`. Metrics with labels of their own are Prometheus' alone.
    """
    shown = _quantile_text if buckets in SUMMARIES else partial(_bucket_text, disjoint=buckets == "disjoint")
    mine = sorted((sample for sample in samples if not sample.is_plain), key=lambda sample: sample.name)
    numbers = [f"{sample.name}: {sample.value}\n" for sample in mine if isinstance(sample.value, int)]
    histograms = [f"{sample.name}: {shown(sample.value)}\n" for sample in mine if isinstance(sample.value, tuple)]
    return "".join((*numbers, *histograms))


def to_json(samples: Iterable[Sample], buckets: str = "summary") -> str:
    """Envoy's `?format=json`: numbers, then all histograms in one entry: quantiles, or counts as for `text`."""
    mine = sorted((sample for sample in samples if not sample.is_plain), key=lambda sample: sample.name)
    stats: list[dict[str, Any]] = [
        {"name": sample.name, "value": sample.value} for sample in mine if isinstance(sample.value, int)
    ]
    histograms = [sample for sample in mine if isinstance(sample.value, tuple)]
    if buckets not in SUMMARIES:
        counted = [_bucket_tree(sample, disjoint=buckets == "disjoint") for sample in histograms]
        return json.dumps({"stats": [*stats, {"histograms": counted}] if counted else stats}, separators=(",", ":"))
    computed = [
        {
            "name": sample.name,
            "values": [{"cumulative": value, "interval": value} for value in _quantiles(sample.value)],
        }
        for sample in histograms
        if isinstance(sample.value, tuple)
    ]
    if computed:
        stats.append({"histograms": {"supported_quantiles": list(_QUANTILES), "computed_quantiles": computed}})
    return json.dumps({"stats": stats}, separators=(",", ":"))


def prometheus(samples: Iterable[Sample], *, with_codes: bool = True, with_quantiles: bool = False) -> str:
    """Prometheus' text format 0.0.4: one `# TYPE` line a family, families sorted by name. `with_codes` takes response
    codes out of names into a tag, as Envoy does by default; `with_quantiles` makes summaries of histograms.
    """
    shown = _summary if with_quantiles else _histogram
    families: dict[tuple[str, str], list[Sample]] = {}
    for sample in map(_response_code, samples) if with_codes else samples:
        families.setdefault((_metric_name(sample), sample.kind), []).append(sample)
    return "".join(
        line for (name, kind), found in sorted(families.items()) for line in _family(name, kind, found, shown)
    )


def _is_used(sample: Sample) -> bool:
    return bool(sample.value[0] if isinstance(sample.value, tuple) else sample.value or sample.kind == "gauge")


def _response_code(sample: Sample) -> Sample:
    """Envoy extracts response codes and their classes (`upstream_rq_2xx`, `upstream_rq_503`) into a tag."""
    found = None if sample.is_plain or "_rq_" not in sample.base else _CODE.match(sample.base)
    if found is None:
        return sample
    if found["group"]:
        tag, base = ("envoy.response_code_class", found["group"]), f"{found['stem']}_xx"
    else:
        tag, base = ("envoy.response_code", found["code"]), found["stem"]
    return sample._replace(base=base, tags=(tag, *sample.tags))


def _metric_name(sample: Sample) -> str:
    return _fit(sample.base) if sample.is_plain else f"envoy_{_fit(sample.base)}"


@cache
def _fit(name: str) -> str:
    """`name` as Prometheus takes it. Names are those of the counters, so there is an end to them."""
    return _UNFIT.sub("_", name)


@cache
def _bound(bound: float) -> str:
    return f"{bound:.17g}"


def _family(name: str, kind: str, samples: list[Sample], shown: _Shown) -> Iterator[str]:
    yield f"# TYPE {name} {'summary' if kind == 'histogram' and shown is _summary else kind}\n"
    for sample in samples:
        labels = _labels(sample.tags)
        if isinstance(sample.value, tuple):
            yield from shown(name, labels, sample.value)
        else:
            yield f"{name}{{{labels}}} {sample.value}\n"


def _histogram(name: str, labels: str, value: HistogramValue) -> Iterator[str]:
    count, total, buckets = value
    before = f"{labels}," if labels else ""
    for bound, cumulative in buckets:
        yield f'{name}_bucket{{{before}le="{_bound(bound)}"}} {cumulative}\n'
    yield f'{name}_bucket{{{before}le="+Inf"}} {count}\n'
    yield _ends(name, labels, count, total)


def _summary(name: str, labels: str, value: HistogramValue) -> Iterator[str]:
    before = f"{labels}," if labels else ""
    for at, found in zip(_QUANTILES, _quantiles(value), strict=True):
        yield f'{name}{{{before}quantile="{at / 100:g}"}} {"nan" if found is None else f"{found:.17g}"}\n'
    yield _ends(name, labels, *value[:2])


def _ends(name: str, labels: str, count: int, total: float) -> str:
    return f"{name}_sum{{{labels}}} {total:.17g}\n{name}_count{{{labels}}} {count}\n"


def _labels(tags: Tags) -> str:
    return ",".join(f'{_fit(name)}="{_escaped(value)}"' for name, value in tags)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _quantile_text(value: HistogramValue) -> str:
    if not value[0]:
        return "No recorded values"
    # Envoy prints (interval,cumulative); there are no flush intervals here, so both are since the start.
    return " ".join(f"P{at:g}({found:g},{found:g})" for at, found in zip(_QUANTILES, _quantiles(value), strict=True))


def _counts(value: HistogramValue, disjoint: bool) -> list[tuple[float, int]]:
    counts, below = [], 0
    for bound, cumulative in value[2]:
        counts.append((bound, cumulative - below if disjoint else cumulative))
        below = cumulative
    return counts


def _bucket_text(value: HistogramValue, disjoint: bool) -> str:
    if not value[0]:
        return "No recorded values"
    return " ".join(f"B{bound:g}({count},{count})" for bound, count in _counts(value, disjoint))


def _bucket_tree(sample: Sample, disjoint: bool) -> dict[str, Any]:
    assert isinstance(sample.value, tuple)
    counts = _counts(sample.value, disjoint)
    return {
        "name": sample.name,
        "buckets": [{"upper_bound": bound, "interval": count, "cumulative": count} for bound, count in counts],
    }


def _quantiles(value: HistogramValue) -> list[float | None]:
    """Estimates by linear interpolation inside the bucket; null where nothing was recorded."""
    return [_quantile(value, at / 100) if value[0] else None for at in _QUANTILES]


def _quantile(value: HistogramValue, share: float) -> float:
    count, _, buckets = value
    rank = share * count
    lower, below = 0.0, 0
    for bound, cumulative in buckets:
        if cumulative > below:
            if cumulative >= rank:
                return lower + (bound - lower) * (rank - below) / (cumulative - below)
            below = cumulative
        lower = bound
    return lower
