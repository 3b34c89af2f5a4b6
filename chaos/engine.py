"""Runs a drill: load in the background, one overlay a phase, every check judged, everything undone in reverse."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from chaos.background import Load
from chaos.checks.base import Check, Context, Judge
from chaos.drill import Drill, Phase
from chaos.errors import CannotMeasure, ChaosError
from chaos.in_force import needed
from chaos.interrupts import Interrupts
from chaos.journal import DrillRecord, PhaseRecord, now
from chaos.overlay import Overlay
from chaos.verdict import Outcome, Verdict, judge
from mesh.client import FaultLost, MeshClient, MeshError

ITSELF = "the drill itself"
UNDONE = "every fault undone"


class Engine:
    """Runs drills, one after the other, against one mesh; `say` gets what passes on a terminal."""

    def __init__(self, client: MeshClient, interrupts: Interrupts, say: Callable[[str], None]) -> None:
        assert client.mesh is not None
        self._client = client
        self._mesh = client.mesh
        self._interrupts = interrupts
        self._say = say

    def run(self, record: DrillRecord, folder: Path) -> None:
        """Runs the record's drill and fills the record, whatever happens; `folder` takes its load's files.

        KeyboardInterrupt comes through when all is undone.
        """
        began = time.monotonic()
        try:
            self._run(record, folder)
            self._interrupts.raise_if_came()
            record.status = "completed"
        except (ChaosError, MeshError) as error:
            record.status = "failed"
            with record.phase(ITSELF) as entry:
                entry.verdicts.append(Verdict("runs to its end", Outcome.NOT_MEASURED, str(error)))
        except KeyboardInterrupt:
            record.status = "interrupted"
            raise
        finally:
            record.end, record.duration = now(), round(time.monotonic() - began, 3)

    def _run(self, record: DrillRecord, folder: Path) -> None:
        drill = record.drill
        overlays = [_overlay(drill, index) for index in range(len(drill.spec.phases))]
        if reason := self._why_not(drill, overlays):
            with record.phase(ITSELF) as entry:
                entry.verdicts.append(Verdict(drill.spec.title, Outcome.SKIPPED, reason))
            return
        try:
            with self._under_load(record, folder):
                for phase, overlay in zip(drill.spec.phases, overlays, strict=True):
                    with record.phase(phase.name) as entry:
                        entry.faults = [fault.title for fault in phase.faults]
                        self._run_phase(phase, overlay, entry, record.seed)
        finally:
            with record.phase("afterwards") as entry:
                entry.verdicts.append(self._undone([overlay.name for overlay in overlays]))

    def _why_not(self, drill: Drill, overlays: list[Overlay]) -> str:
        """Why this mesh cannot run the drill, or nothing."""
        if self._mesh.engine not in drill.spec.engines:
            return f"it needs the {' or '.join(drill.spec.engines)} engine, and the mesh runs on {self._mesh.engine}"
        lacking = sorted({name for each in overlays for name in needed(each.resources)} & self._mesh.lacking.keys())
        return "; ".join(f"it needs the capability {name}: {self._mesh.lacking[name]}" for name in lacking)

    @contextmanager
    def _under_load(self, record: DrillRecord, folder: Path) -> Iterator[None]:
        spec = record.drill.spec.load
        if spec is None:
            yield
            return
        self._say("the load starts")
        with Load(spec, self._mesh.gateway, folder) as load:
            try:
                with self._interrupts.let_through():
                    load.await_first()
                yield
            finally:
                self._say("the load ends")
                load.stop()
                with record.phase("load") as entry:
                    entry.verdicts.append(load.verdict())
                record.load, record.timeline = load.summary(), load.timeline()

    def _run_phase(self, phase: Phase, overlay: Overlay, entry: PhaseRecord, seed: str) -> None:
        self._say(f"{phase.name}: laying it over the mesh")
        lifting = 0.0
        try:
            with overlay.laid(self._client, self._interrupts):
                try:
                    with self._interrupts.let_through():
                        self._check(phase, entry, seed)
                finally:
                    self._say(f"{phase.name}: lifting it")
                    lifting = time.monotonic()
            if not overlay.is_empty:
                entry.recovery_s = round(time.monotonic() - lifting, 3)
        except FaultLost as error:
            entry.verdicts = _unmeasured(phase, str(error))
        except (ChaosError, MeshError) as error:
            if lifting:
                entry.verdicts.append(Verdict("the mesh recovers", Outcome.VIOLATED, str(error)))
            else:
                entry.verdicts = _unmeasured(phase, str(error))

    def _check(self, phase: Phase, entry: PhaseRecord, seed: str) -> None:
        contexts = [
            Context(self._client, self._mesh.gateway, seed, self._prefixed(f"{phase.name}: {check.title}"))
            for check in phase.checks
        ]
        begun = [_begun(check, context) for check, context in zip(phase.checks, contexts, strict=True)]
        for check, context, each in zip(phase.checks, contexts, begun, strict=True):
            context.progress("")
            began = time.monotonic()
            verdict = _judged(check, each)
            entry.verdicts.append(dataclasses.replace(verdict, seconds=round(time.monotonic() - began, 3)))

    def _prefixed(self, prefix: str) -> Callable[[str], None]:
        return lambda text: self._say(f"{prefix}  {text}")

    def _undone(self, names: list[str]) -> Verdict:
        try:
            present = {fault["metadata"]["name"] for fault in self._client.list("Fault").items}
        except MeshError as error:
            return Verdict(UNDONE, Outcome.NOT_MEASURED, str(error))
        left = [name for name in names if name in present]
        problems = [f"still there: {', '.join(left)}"] if left else []
        return judge(UNDONE, problems, "no fault of this drill is left on the mesh", {"left": left})


def _overlay(drill: Drill, index: int) -> Overlay:
    deletions = drill.spec.phases[index].deletions
    return Overlay(drill.fault_name(index), drill.metadata.namespace, drill.resources(index), deletions)


def _begun(check: Check, context: Context) -> Judge | ChaosError | MeshError:
    # One check that cannot take its baseline must not keep the others from being evaluated.
    try:
        return check.begin(context)
    except (ChaosError, MeshError) as error:
        return error


def _judged(check: Check, begun: Judge | ChaosError | MeshError) -> Verdict:
    try:
        if isinstance(begun, Exception):
            raise begun
        return begun()
    except (CannotMeasure, MeshError) as error:
        return Verdict(check.title, Outcome.NOT_MEASURED, str(error))


def _unmeasured(phase: Phase, reason: str) -> list[Verdict]:
    """Nothing that a phase's checks saw counts; where it has none, the phase itself says so."""
    titles = [check.title for check in phase.checks] or [phase.name]
    return [Verdict(title, Outcome.NOT_MEASURED, reason) for title in titles]
