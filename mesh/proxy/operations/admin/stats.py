"""`/stats`, `/stats/prometheus` and `/reset_counters`."""

from __future__ import annotations

from mesh.proxy.observe import exposition
from mesh.proxy.observe.stats import Sample
from mesh.proxy.operations.admin.page import JSON, BadQuery, Page, Reply, Request, Sidecar, matcher

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_PARAMETERS = {
    "usedonly": "Only include stats that have been written by system since restart",
    "filter": "Regular expression (Google re2) for filtering stats",
    "invert_filter": "Invert the filter regex",
}
_FORMATS = {
    "format": "Format to use; One of (json, prometheus, text)",
    "type": "Stat types to include.; One of (All, Counters, Histograms, Gauges, TextReadouts)",
    "histogram_buckets": "Histogram bucket display mode; One of (cumulative, disjoint, summary)",
}
# There are no text readouts here, and so none to show.
_KINDS = {"All": None, "Counters": "counter", "Gauges": "gauge", "Histograms": "histogram", "TextReadouts": ""}


async def stats(sidecar: Sidecar, request: Request) -> Reply:
    wanted = request.query.get("format", "text")
    if wanted == "prometheus":
        return await prometheus(sidecar, request)
    if wanted not in ("text", "json"):
        raise BadQuery("usage: /stats?format=(json|prometheus|text)\n\n")
    buckets = request.query.get("histogram_buckets", "summary")
    if buckets not in ("summary", "none", "cumulative", "disjoint"):
        raise BadQuery("usage: /stats?histogram_buckets=(cumulative|disjoint|summary)\n\n")
    samples = await _selected(sidecar, request)
    if wanted == "json":
        return Reply(exposition.to_json(samples, buckets), content_type=JSON)
    return Reply(exposition.text(samples, buckets))


async def prometheus(sidecar: Sidecar, request: Request) -> Reply:
    samples = await _selected(sidecar, request)
    with_codes = sidecar.metrics.view.with_defaults
    return Reply(exposition.prometheus(samples, with_codes=with_codes), content_type=_PROMETHEUS)


async def reset(sidecar: Sidecar, _: Request) -> Reply:
    await sidecar.plane.reset_counters()
    sidecar.stats.reset_counters()
    return Reply("OK\n")


def _kind(request: Request) -> str | None:
    """The kind of samples that `type` asks for; None for all."""
    wanted = request.query.get("type", "All")
    if wanted not in _KINDS:
        raise BadQuery("invalid &type= param")
    return _KINDS[wanted]


async def _selected(sidecar: Sidecar, request: Request) -> list[Sample]:
    samples = await sidecar.metrics.samples()
    kind = _kind(request)
    matches = matcher(request)
    if matches is not None and "invert_filter" in request.query:
        found = matches
        matches = lambda name: not found(name)  # noqa: E731
    selected = exposition.select(samples, used_only="usedonly" in request.query, matches=matches)
    return selected if kind is None else [sample for sample in selected if sample.kind == kind]


PAGES = (
    Page("/stats", "print server stats", stats, parameters=_FORMATS | _PARAMETERS),
    Page("/stats/prometheus", "print server stats in prometheus format", prometheus, parameters=_PARAMETERS),
    Page("/reset_counters", "reset all counters to zero", reset, changes=True),
)
