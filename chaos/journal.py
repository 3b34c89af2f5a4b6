"""The record of a run, written as it goes: what was laid over the mesh, what was measured, how it ended.

A superset of Chaos Toolkit's journal, so that tools that read those read these.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from chaos.drill import Drill
from chaos.verdict import Outcome, Verdict

Result = Literal["passed", "failed", "skipped"]


def now() -> str:
    """The present time, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat()


@dataclass
class PhaseRecord:
    """One phase of a run. `faults` are what was done to pods, in words.

    `recovery_s` is the time from lifting its overlay until every pod and proxy was as before.
    """

    name: str
    start: str
    end: str = ""
    verdicts: list[Verdict] = field(default_factory=list)
    recovery_s: float | None = None
    faults: list[str] = field(default_factory=list)


@dataclass
class DrillRecord:
    """One run of one drill.

    `load` sums up what Locust saw, `timeline` has its requests as points of a picture. `status` is Chaos Toolkit's word
    for how it ended: completed, failed (it could not run to its end) or interrupted; until then it is aborted.
    """

    drill: Drill
    seed: str
    start: str
    end: str = ""
    duration: float = 0.0
    status: Literal["completed", "failed", "interrupted", "aborted"] = "aborted"
    phases: list[PhaseRecord] = field(default_factory=list)
    load: dict[str, Any] = field(default_factory=dict)
    timeline: list[tuple[float, float, str]] = field(default_factory=list)

    @property
    def verdicts(self) -> list[Verdict]:
        """All verdicts, in order."""
        return [verdict for phase in self.phases for verdict in phase.verdicts]

    @property
    def result(self) -> Result:
        """Passed: it ran to its end, some assertion held, and the others held or were skipped with a reason."""
        outcomes = {verdict.outcome for verdict in self.verdicts}
        if self.status != "completed" or not outcomes or not all(outcome.passes for outcome in outcomes):
            return "failed"
        return "passed" if Outcome.HELD in outcomes else "skipped"

    @contextmanager
    def phase(self, name: str) -> Iterator[PhaseRecord]:
        """A phase that begins and ends with the block."""
        record = PhaseRecord(name, now())
        self.phases.append(record)
        try:
            yield record
        finally:
            record.end = now()


def passed(records: Sequence[DrillRecord]) -> bool:
    """Whether a run as a whole passed: no drill failed, and one at least was not skipped."""
    results = [record.result for record in records]
    return "failed" not in results and "passed" in results


def as_json(record: DrillRecord) -> dict[str, Any]:
    """A run as plain data."""
    drill = record.drill
    return {
        "meshdrill-version": 1,
        "platform": platform.platform(),
        "experiment": {"title": drill.spec.title, "description": drill.spec.about, "name": drill.name},
        "seed": record.seed,
        "start": record.start,
        "end": record.end,
        "duration": record.duration,
        "status": record.status,
        "deviated": record.result == "failed",
        "result": record.result,
        "load": record.load,
        "run": [_phase(phase) for phase in record.phases],
    }


def _phase(phase: PhaseRecord) -> dict[str, Any]:
    return {
        "name": phase.name,
        "start": phase.start,
        "end": phase.end,
        "recovery_s": phase.recovery_s,
        "faults": phase.faults,
        "checks": [_verdict(verdict) for verdict in phase.verdicts],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "name": verdict.check,
        "outcome": verdict.outcome.value,
        "detail": verdict.detail,
        "seconds": verdict.seconds,
        "evidence": dict(verdict.evidence),
        "pictures": [dataclasses.asdict(picture) for picture in verdict.pictures],
    }


def write(path: Path, records: Sequence[DrillRecord]) -> None:
    """Writes all runs so far, whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps([as_json(record) for record in records], indent=1), encoding="utf-8")
    os.replace(partial, path)


def summary(records: Sequence[DrillRecord]) -> dict[Outcome, int]:
    """How many verdicts ended in each outcome."""
    verdicts = [verdict for record in records for verdict in record.verdicts]
    return {outcome: sum(1 for verdict in verdicts if verdict.outcome is outcome) for outcome in Outcome}
