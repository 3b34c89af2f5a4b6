"""`/stats`, `/stats/prometheus` and `/reset_counters`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mesh.proxy.observe import exposition
from mesh.proxy.observe.stats import Sample
from mesh.proxy.operations.admin.page import JSON, BadQuery, Page, Reply, Request, Sidecar, matcher

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_PARAMETERS = {
    "usedonly": "Only include stats that have been written by system since restart",
    "filter": "Regular expression (Google re2) for filtering stats",
    "invert_filter": "Invert the filter regex",
    "type": "Stat types to include.; One of (All, Counters, Histograms, Gauges, TextReadouts)",
    "hidden": "Whether to show hidden stats; One of (include, only, exclude)",
    "histogram_buckets": "Histogram bucket display mode; One of (cumulative, disjoint, summary)",
}
_FORMATS = {"format": "Format to use; One of (json, prometheus, text)"}
# There are no text readouts and no hidden stats here, and so none to show.
_KINDS = {"All": None, "Counters": "counter", "Gauges": "gauge", "Histograms": "histogram", "TextReadouts": ""}


async def stats(sidecar: Sidecar, request: Request) -> Reply:
    choice = _choice(request)
    if choice.form == "prometheus":
        return await _prometheus(sidecar, choice)
    samples = await _selected(sidecar, choice)
    buckets = choice.buckets or "summary"
    if choice.form == "json":
        return Reply(exposition.to_json(samples, buckets), content_type=JSON)
    return Reply(exposition.text(samples, buckets))


async def prometheus(sidecar: Sidecar, request: Request) -> Reply:
    return await _prometheus(sidecar, _choice(request))


async def _prometheus(sidecar: Sidecar, choice: _Choice) -> Reply:
    if choice.buckets == "disjoint":
        raise BadQuery("unsupported prometheus histogram bucket mode")
    samples = await _selected(sidecar, choice)
    shown = exposition.prometheus(
        samples, with_codes=sidecar.metrics.view.with_defaults, with_quantiles=choice.buckets in exposition.SUMMARIES
    )
    return Reply(shown, content_type=_PROMETHEUS)


async def reset(sidecar: Sidecar, _: Request) -> Reply:
    await sidecar.plane.reset_counters()
    sidecar.stats.reset_counters()
    return Reply("OK\n")


@dataclass(frozen=True, slots=True)
class _Choice:
    """What is asked for; `buckets` is empty where nothing is said of them, `kind` None for all."""

    form: str
    buckets: str
    kind: str | None
    used_only: bool
    matches: Callable[[str], object] | None


def _choice(request: Request) -> _Choice:
    """In Envoy's order, as the first that is wrong is told. Raises BadQuery."""
    query = request.query
    matches = _matches(request)
    buckets = query.get("histogram_buckets", "")
    if buckets not in ("", "none", "summary", "cumulative", "disjoint"):
        raise BadQuery("usage: /stats?histogram_buckets=(cumulative|disjoint|summary)\n\n")
    kind = query.get("type") or "All"
    if kind not in _KINDS:
        raise BadQuery("invalid &type= param")
    hidden = query.get("hidden") or "exclude"
    if hidden not in ("include", "only", "exclude"):
        raise BadQuery("usage: /stats?hidden=(include|only|exclude)\n\n")
    form = query.get("format") or "text"
    if form not in ("text", "json", "prometheus"):
        raise BadQuery("usage: /stats?format=(json|prometheus|text)\n\n")
    return _Choice(form, buckets, "" if hidden == "only" else _KINDS[kind], "usedonly" in query, matches)


def _matches(request: Request) -> Callable[[str], object] | None:
    found = matcher(request)
    if found is None or "invert_filter" not in request.query:
        return found
    return lambda name: not found(name)


async def _selected(sidecar: Sidecar, choice: _Choice) -> list[Sample]:
    samples = await sidecar.metrics.samples()
    selected = exposition.select(samples, used_only=choice.used_only, matches=choice.matches)
    return selected if choice.kind is None else [sample for sample in selected if sample.kind == choice.kind]


PAGES = (
    Page("/stats", "print server stats", stats, parameters=_FORMATS | _PARAMETERS),
    Page("/stats/prometheus", "print server stats in prometheus format", prometheus, parameters=_PARAMETERS),
    Page("/reset_counters", "reset all counters to zero", reset, changes=True),
)
