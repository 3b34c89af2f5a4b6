"""Runs drills for a user: progress, files, exit code."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from chaos import journal
from chaos.drill import Drill
from chaos.engine import Engine
from chaos.journal import DrillRecord
from chaos.reports import html, junit, table
from mesh.client import MeshClient

PASSED, FAILED, INTERRUPTED = 0, 1, 130


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where a run speaks: `line` prints for good, `progress` shows a passing state (or nothing)."""

    line: Callable[[str], None]
    progress: Callable[[str], None]
    width: int
    colour: bool


def new_folder(parent: Path) -> Path:
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


def run(drills: Sequence[Drill], client: MeshClient, folder: Path, seed: str, terminal: Terminal) -> int:
    """Runs the drills in order; writes `journal.json`, `junit.xml` and `report.html` into the folder after each.

    Returns 0 when every assertion held and every fault is undone, 1 when not, 130 when interrupted; an interrupt
    (SIGINT or SIGTERM) first undoes what was done.
    """
    assert client.mesh is not None
    engine = Engine(client, client.mesh.gateway, client.mesh.engine, folder, terminal.progress)
    records: list[DrillRecord] = []
    with _terminated_as_interrupt():
        try:
            for drill in drills:
                terminal.line(f"Drill {drill.name}: {drill.spec.title}")
                records.append(DrillRecord(drill, seed, journal.now()))
                engine.run(records[-1])
                terminal.line(table.render(records[-1], width=terminal.width, colour=terminal.colour))
                _write(folder, records)
        except KeyboardInterrupt:
            terminal.line("Interrupted; every fault has been lifted.")
            _write(folder, records)
            return INTERRUPTED
    terminal.line(table.closing(records))
    terminal.line(f"Report: {folder / 'report.html'}   JUnit: {folder / 'junit.xml'}")
    return PASSED if all(record.passed for record in records) else FAILED


def _write(folder: Path, records: list[DrillRecord]) -> None:
    journal.write(folder / "journal.json", records)
    junit.write(folder / "junit.xml", records)
    html.write(folder / "report.html", records)


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
