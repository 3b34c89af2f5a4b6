"""Runs drills for a user: progress, files, exit code."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos import journal, preflight
from chaos.drill import Drill
from chaos.engine import UNDONE, Engine
from chaos.interrupts import Interrupts
from chaos.journal import DrillRecord
from chaos.reports import html, junit, table
from chaos.verdict import Outcome
from mesh.client import MeshClient

PASSED, FAILED, INTERRUPTED = 0, 1, 130


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where a run speaks: `line` prints for good, `progress` shows a passing state (or nothing)."""

    line: Callable[[str], None]
    progress: Callable[[str], None]
    width: int
    colour: bool


def _new_folder(parent: Path) -> Path:
    """A fresh folder for a run's files, named by the time; raises OSError where none can be made."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{parent} is full of runs of this second")


def run(drills: Sequence[Drill], client: MeshClient, out: Path, seed: str, terminal: Terminal) -> int:
    """Runs the drills in order; writes `journal.json`, `junit.xml` and `report.html` into a new folder of `out`.

    Returns 0 when every assertion held and every fault is undone, 1 when not, 130 when interrupted; an interrupt
    (SIGINT, SIGTERM or SIGHUP) first undoes what was done. Raises BadDrill, CannotMeasure or MeshError before the
    first drill, when the mesh cannot take them.
    """
    preflight.require_valid(client, drills)
    preflight.require_no_fault(client)
    folder = _new_folder(out)
    interrupts = Interrupts()
    engine = Engine(client, interrupts, terminal.progress)
    names = Counter[str]()
    records: list[DrillRecord] = []
    with interrupts.taken():
        try:
            for drill in drills:
                terminal.line(f"Drill {drill.name}: {drill.spec.title}")
                names[drill.name] += 1
                again = f"-{names[drill.name]}" if names[drill.name] > 1 else ""
                records.append(DrillRecord(drill, seed, journal.now()))
                try:
                    engine.run(records[-1], folder / f"{drill.name}{again}")
                finally:
                    _write(folder, records)
                terminal.line(table.render(records[-1], width=terminal.width, colour=terminal.colour))
        except KeyboardInterrupt:
            terminal.line(table.render(records[-1], width=terminal.width, colour=terminal.colour))
            terminal.line(f"Interrupted; {_undone(records[-1])}. Report: {folder / 'report.html'}")
            return INTERRUPTED
    terminal.line(table.closing(records))
    terminal.line(f"Report: {folder / 'report.html'}   JUnit: {folder / 'junit.xml'}")
    return PASSED if journal.passed(records) else FAILED


def _undone(record: DrillRecord) -> str:
    held = any(verdict.check == UNDONE and verdict.outcome is Outcome.HELD for verdict in record.verdicts)
    return "every fault has been lifted" if held else "faults may be left, and end by themselves within seconds"


def _write(folder: Path, records: list[DrillRecord]) -> None:
    journal.write(folder / "journal.json", records)
    junit.write(folder / "junit.xml", records)
    html.write(folder / "report.html", records)
