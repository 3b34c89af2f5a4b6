"""Samples of a Prometheus text page (exposition format 0.0.4), as `/stats/prometheus` of a sidecar shows them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mesh.client.errors import MeshError

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?\Z")
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"\s*(?:,|\Z)')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "\\": "\\", '"': '"'}


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of the page: a series and its value."""

    name: str
    labels: Mapping[str, str]
    value: float

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether all of `labels` are this sample's too; a label it does not have equals the empty string."""
        return all(self.labels.get(name, "") == value for name, value in labels.items())


class Metrics:
    """One scrape. Names and labels are Istio's and Envoy's own."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._by_name: dict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            self._by_name[sample.name].append(sample)

    def samples(self, name: str, /, **labels: str) -> list[Sample]:
        """The samples of `name` that have all of `labels`."""
        return [sample for sample in self._by_name.get(name, ()) if sample.matches(labels)]

    def value(self, name: str, /, **labels: str) -> float:
        """The sum of those samples: 0.0 where there is none, as a counter that never counted is not shown."""
        return sum(sample.value for sample in self.samples(name, **labels))

    def names(self) -> list[str]:
        return sorted(self._by_name)


def parse_metrics(text: str) -> Metrics:
    """The samples of a page. Raises MeshError with the line that is not one."""
    return Metrics(_sample(line) for line in text.splitlines() if line.strip() and not line.startswith("#"))


def _sample(line: str) -> Sample:
    match = _SAMPLE.match(line.strip())
    if match is None:
        raise MeshError(f"not a Prometheus sample: {line[:200]!r}")
    name, labels, value = match.groups()
    try:
        return Sample(name, _labels(labels or ""), float(value))
    except ValueError as error:
        raise MeshError(f"not a Prometheus sample: {line[:200]!r}") from error


def _labels(text: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _LABEL.match(text, position)
        if match is None:
            raise ValueError(text)
        value = match[2]
        labels[match[1]] = _ESCAPE.sub(_unescape, value) if "\\" in value else value
        position = match.end()
    return labels


def _unescape(match: re.Match[str]) -> str:
    return _ESCAPED.get(match[1], match[0])
