"""Istio's standard metrics: what they are called, their labels, and what a Telemetry makes of them.

`stats.PluginConfig` is what Istio compiles a Telemetry to. Its expressions are CEL; the few that name one attribute, or
a constant, are understood, others are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mesh.proxy.fields import Place
from mesh.proxy.observe.stats import Histogram, Labelled, Stats

LABELS = (
    "reporter", "source_workload", "source_canonical_service", "source_canonical_revision",
    "source_workload_namespace", "source_principal", "source_app", "source_version", "source_cluster",
    "destination_workload", "destination_workload_namespace", "destination_principal", "destination_app",
    "destination_version", "destination_service", "destination_canonical_service",
    "destination_canonical_revision", "destination_service_name", "destination_service_namespace",
    "destination_cluster", "request_protocol", "response_code", "grpc_response_status", "response_flags",
    "connection_security_policy",
)  # fmt: skip
_OF_HTTP_ALONE = frozenset(("response_code", "grpc_response_status"))
HTTP_METRICS: Mapping[str, str] = {
    "requests_total": "counter",
    "request_duration_milliseconds": "histogram",
    "request_bytes": "histogram",
    "response_bytes": "histogram",
}
TCP_METRICS: Mapping[str, str] = {
    "tcp_connections_opened_total": "counter",
    "tcp_connections_closed_total": "counter",
    "tcp_received_bytes_total": "counter",
    "tcp_sent_bytes_total": "counter",
}
_GRPC_MESSAGES = ("request_messages_total", "response_messages_total")  # not counted here
_FIELDS = frozenset(("name", "dimensions", "tags_to_remove", "drop"))
# What may stand beside `metrics`; of no effect here, as hosts are never taken from requests and TCP reports at the end.
_OTHER_FIELDS = frozenset(("metrics", "disable_host_header_fallback", "tcp_reporting_duration", "debug", "stat_prefix"))

Value = Callable[[Any], str]


@dataclass(slots=True)
class Change:
    """What a configuration says of one metric."""

    drop: bool = False
    removed: set[str] = field(default_factory=set)
    added: dict[str, Value] = field(default_factory=dict)


class Metric:
    """One metric with the labels that are left: `extra` are values that the configuration asks for, in their order."""

    __slots__ = ("_kept", "_labelled", "extra", "kind")

    def __init__(self, name: str, kind: str, labels: tuple[str, ...], change: Change, stats: Stats) -> None:
        self.kind = kind
        self.extra = () if change.drop else tuple(change.added.values())
        replaced = change.removed | change.added.keys()
        self._kept = tuple(index for index, label in enumerate(labels) if label not in replaced)
        names = (*(labels[index] for index in self._kept), *change.added)
        self._labelled: Labelled | None = None
        if not change.drop:
            self._labelled = stats.labelled(f"istio_{name}", kind, names)

    def cell(self, values: tuple[str, ...], extra: tuple[str, ...]) -> list[int]:
        """The counter of these label values; one that nobody reads if the metric is dropped."""
        return [0] if self._labelled is None else self._labelled.counter(self._of(values, extra))

    def histogram(self, values: tuple[str, ...], extra: tuple[str, ...]) -> Histogram:
        return Histogram() if self._labelled is None else self._labelled.histogram(self._of(values, extra))

    def _of(self, values: tuple[str, ...], extra: tuple[str, ...]) -> tuple[str, ...]:
        return (*(values[index] for index in self._kept), *extra)


def compile_metrics(config: Any, stats: Stats, place: Place, *, tcp: bool) -> tuple[Metric, ...]:
    """The metrics of HTTP or TCP, in the order of their tables. Raises Refused."""
    changes = _changes(config, place)
    labels = tuple(label for label in LABELS if label not in _OF_HTTP_ALONE) if tcp else LABELS
    kinds = TCP_METRICS if tcp else HTTP_METRICS
    return tuple(Metric(name, kind, labels, changes[name], stats) for name, kind in kinds.items())


def _changes(config: Mapping[str, Any], place: Place) -> dict[str, Change]:
    for name in config:
        if name not in _OTHER_FIELDS:
            raise place.refuse("not supported by this sidecar", name)
    changes = {name: Change() for name in (*HTTP_METRICS, *TCP_METRICS, *_GRPC_MESSAGES)}
    for index, metric in enumerate(config.get("metrics", [])):
        inside = place.at(f"metrics[{index}]")
        for name in metric:
            if name not in _FIELDS:
                raise inside.refuse("not supported by this sidecar", name)
        wanted = metric.get("name", "")
        if wanted and wanted not in changes:
            raise inside.refuse(f"{wanted} is none of Istio's standard metrics", "name")
        for name in [wanted] if wanted else changes:
            _change(changes[name], metric, inside)
    return changes


def _change(change: Change, metric: Mapping[str, Any], place: Place) -> None:
    change.drop = change.drop or bool(metric.get("drop", False))
    for label in metric.get("tags_to_remove", []):
        change.added.pop(label, None)
        change.removed.add(label)
    for label, expression in metric.get("dimensions", {}).items():
        change.added[label] = _value(str(expression), place.at(f"dimensions[{label}]"))


_CONSTANT = re.compile(r"""(['"])([^'"\\]*)\1""")
_HEADER = re.compile(r"""(request|response)\.headers\[(['"])([^'"\\]+)\2\]""")
_UNKNOWN = "unknown"


def _value(expression: str, place: Place) -> Value:
    """A CEL expression as a function of a stream or TCP connection."""
    constant = _CONSTANT.fullmatch(expression)
    if constant is not None:
        return lambda subject: constant[2]
    header = _HEADER.fullmatch(expression)
    if header is not None:
        return _header(f"{header[1]}_head" if header[1] == "response" else "head", header[3].lower().encode())
    found = _ATTRIBUTES.get(expression)
    if found is None:
        raise place.refuse(f"expression {expression!r} is not supported by this sidecar")
    return found


def _header(head: str, name: bytes) -> Value:
    def value(subject: Any) -> str:
        found = getattr(subject, head, None)
        said = found.get(name) if found is not None else None
        return _UNKNOWN if said is None else str(said, "utf-8", "replace")

    return value


def _of_head(attribute: str) -> Value:
    def value(subject: Any) -> str:
        head = getattr(subject, "head", None)
        return _UNKNOWN if head is None else str(getattr(head, attribute), "utf-8", "replace")

    return value


def _path(subject: Any) -> str:
    return _of_head("target")(subject).partition("?")[0]


_ATTRIBUTES: Mapping[str, Value] = {
    "request.host": _of_head("authority"),
    "request.method": _of_head("method"),
    "request.path": _of_head("target"),
    "request.url_path": _path,
    "response.code": lambda subject: str(getattr(subject, "status", 0)),
    "response.flags": lambda subject: subject.flags or "-",
    "xds.cluster_name": lambda subject: subject.cluster_name or _UNKNOWN,
    "xds.route_name": lambda subject: getattr(getattr(subject, "route", None), "name", "") or _UNKNOWN,
}
