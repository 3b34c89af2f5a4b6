"""What the control plane counts, in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

Labels = tuple[tuple[str, str], ...]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, help line, type (counter or gauge) and the value of each set of labels."""

    name: str
    help: str
    type: str
    values: Mapping[Labels, float]


class LabelledCounter:
    """A counter that only grows, one value a set of labels; the names of the labels are fixed."""

    def __init__(self, name: str, help_line: str, labels: tuple[str, ...] = ()) -> None:
        self._name = name
        self._help = help_line
        self._labels = labels
        self._values: Counter[tuple[str, ...]] = Counter()

    def count(self, *labels: str) -> None:
        self._values[labels] += 1

    def family(self) -> Family:
        """The counter as it stands; one without labels is shown from the start, as 0."""
        values = dict(self._values) or ({} if self._labels else {(): 0})
        named = {tuple(zip(self._labels, labels, strict=True)): float(value) for labels, value in values.items()}
        return Family(self._name, self._help, "counter", named)


def render(families: Iterable[Family]) -> str:
    """The page that a scrape of `families` gives."""
    return "".join(line + "\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {family.help}"
    yield f"# TYPE {family.name} {family.type}"
    for labels, value in family.values.items():
        shown = ",".join(f'{name}="{_escape(text)}"' for name, text in labels)
        yield f"{family.name}{{{shown}}} {value:.15g}" if shown else f"{family.name} {value:.15g}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
