"""Plain numbers about the server, under Pilot's metric names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mesh.xds.types import XdsType


class Metric(NamedTuple):
    """One metric family: samples are label pairs and value."""

    name: str
    help: str
    type: str
    samples: tuple[tuple[tuple[tuple[str, str], ...], float], ...]


@dataclass(slots=True)
class Counters:
    """Counted where things happen, read at scrape. Durations are in seconds."""

    pushes: Counter[XdsType] = field(default_factory=Counter)
    pushed_bytes: Counter[XdsType] = field(default_factory=Counter)
    refusals: Counter[XdsType] = field(default_factory=Counter)
    refused_streams: int = 0
    snapshots: int = 0
    snapshot_seconds: float = 0.0
    convergences: int = 0
    convergence_seconds: float = 0.0

    def metrics(self, connected: int, compiled: int, reused: int) -> Iterator[Metric]:
        """`convergence` is from the first change until the proxy has taken all that follows from it."""
        yield _single("pilot_xds", "Proxies connected over ADS.", "gauge", connected)
        yield _by_type("pilot_xds_pushes", "Responses sent.", self.pushes)
        yield _by_type("pilot_xds_config_size_bytes", "Bytes of the responses sent.", self.pushed_bytes)
        yield _by_type("pilot_total_xds_rejects", "Responses that a proxy refused.", self.refusals)
        yield _single(
            "pilot_xds_refused_streams", "Streams refused for identity or node.", "counter", self.refused_streams
        )
        yield _single("pilot_snapshots", "Snapshots built.", "counter", self.snapshots)
        yield _single("pilot_snapshot_seconds", "Time spent building them.", "counter", self.snapshot_seconds)
        yield _single("pilot_resources_compiled", "Resources compiled.", "counter", compiled)
        yield _single("pilot_resources_reused", "Resources found compiled already.", "counter", reused)
        yield _single(
            "pilot_proxy_convergences", "Times a proxy caught up with a change.", "counter", self.convergences
        )
        yield _single("pilot_proxy_convergence_seconds", "Time those took.", "counter", self.convergence_seconds)


def _single(name: str, text: str, kind: str, value: float) -> Metric:
    return Metric(name, text, kind, (((), value),))


def _by_type(name: str, text: str, counts: Counter[XdsType]) -> Metric:
    return Metric(name, text, "counter", tuple(((("type", type_.value),), counts[type_]) for type_ in XdsType))
