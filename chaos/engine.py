"""Runs a drill: load in the background, one overlay a phase, every check judged, everything undone in reverse."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from chaos.background import Load
from chaos.checks.base import Context, Judge, as_selector, wait_until
from chaos.decode import Manifest
from chaos.drill import Drill, Phase
from chaos.errors import CannotMeasure, ChaosError
from chaos.journal import DrillRecord, PhaseRecord, now
from chaos.verdict import Outcome, Verdict, judge
from mesh.client import MeshClient, MeshError

READY_S = 30.0
ALL_UNDONE = "every fault undone"


class Engine:
    """Runs drills, one after the other, against one mesh. `folder` takes the load's files; `say` gets progress."""

    def __init__(self, client: MeshClient, gateway: str, engine: str, folder: Path, say: Callable[[str], None]) -> None:
        self._client = client
        self._engine = engine
        self._gateway = gateway
        self._folder = folder
        self._say = say

    def run(self, record: DrillRecord) -> None:
        """Runs the record's drill and fills the record, whatever happens. An interrupt undoes all, then goes on."""
        began = time.monotonic()
        try:
            self._run(record.drill, record, Context(self._client, self._gateway, record.seed, self._say))
        except (ChaosError, MeshError) as error:
            record.status = "failed"
            with record.phase("the drill itself") as entry:
                entry.verdicts.append(Verdict("ran to its end", Outcome.NOT_MEASURED, str(error)))
        except KeyboardInterrupt:
            record.status = "interrupted"
            raise
        finally:
            record.end, record.duration = now(), round(time.monotonic() - began, 3)

    def _run(self, drill: Drill, record: DrillRecord, context: Context) -> None:
        if self._engine not in drill.spec.engines:
            reason = f"it needs the {' or '.join(drill.spec.engines)} engine, and the mesh runs on {self._engine}"
            with record.phase("the drill itself") as entry:
                entry.verdicts.append(Verdict(drill.spec.title, Outcome.SKIPPED, reason))
            return
        with ExitStack() as stack:
            load = None
            if drill.spec.load:
                load = stack.enter_context(Load(drill.spec.load, self._gateway, self._folder / drill.name))
            for phase in drill.spec.phases:
                with record.phase(phase.name) as entry, self._overlaid(drill, phase):
                    self._check(phase, entry, context)
            if load:
                load.stop()
                with record.phase("load") as entry:
                    entry.verdicts.append(load.verdict())
                record.load, record.timeline = load.summary(), load.timeline()
        with record.phase("afterwards") as entry:
            entry.verdicts.append(self._undone())

    @contextmanager
    def _overlaid(self, drill: Drill, phase: Phase) -> Iterator[None]:
        if not phase.resources and not phase.deletions:
            yield
            return
        name = f"{drill.name}-{_slug(phase.name)}"
        with self._client.fault(name, phase.resources, phase.deletions, namespace=drill.metadata.namespace):
            for deployment in (manifest for manifest in phase.resources if manifest["kind"] == "Deployment"):
                self._await_pods(deployment)
            self._client.wait_synced()
            yield

    def _await_pods(self, deployment: Manifest) -> None:
        labels = deployment["spec"]["selector"]["matchLabels"]
        wanted = deployment["spec"].get("replicas", 1)

        def ready() -> bool:
            return bool(sum(pod.ready for pod in self._client.pods(labels=labels)) >= wanted)

        wait_until(ready, READY_S, f"{wanted} ready pod(s) with {as_selector(labels)}")

    def _check(self, phase: Phase, entry: PhaseRecord, context: Context) -> None:
        judges = [(type(check).__name__, _guarded(check.begin, context)) for check in phase.checks]
        for name, begun in judges:
            self._say(name)
            entry.verdicts.append(_verdict(name, begun))

    def _undone(self) -> Verdict:
        left = [fault["metadata"]["name"] for fault in self._client.list("Fault").items]
        problems = [f"still there: {', '.join(left)}"] if left else []
        return judge(ALL_UNDONE, problems, "no fault is left on the mesh", {"left": left})


def _guarded(begin: Callable[[Context], Judge], context: Context) -> Judge | ChaosError | MeshError:
    # One check that cannot take its baseline must not keep the others from being evaluated.
    try:
        return begin(context)
    except (ChaosError, MeshError) as error:
        return error


def _verdict(name: str, begun: Judge | ChaosError | MeshError) -> Verdict:
    try:
        if isinstance(begun, Exception):
            raise begun
        return begun()
    except (CannotMeasure, MeshError) as error:
        return Verdict(name, Outcome.NOT_MEASURED, str(error))


def _slug(text: str) -> str:
    return "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in text.lower()).split())
