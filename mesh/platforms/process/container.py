"""One container of a pod: started, probed, restarted with back-off, stopped, whatever it runs in."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from signal import Signals
from typing import Any, Protocol

from mesh.api.pod import ContainerStatus, LifecycleHandler, Probe
from mesh.platforms.backoff import Backoff
from mesh.platforms.base import ExecResult
from mesh.platforms.probes import Tally, Target, eager_pause_s, run_probe
from mesh.platforms.process.volumes import Mount

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Enclosure(Protocol):
    """What is around a container's processes. Both are carried out in the child, between fork and exec."""

    def enter(self) -> None: ...

    def join(self, container: int) -> Callable[[], None]:
        """Into the enclosure of the running container whose process has this pid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlan:
    """What to run and how to see whether it is well. Without `enclosure` it runs among the processes of this host.

    `is_init`: it is well once it has ended with success. `pending` is why it waits before its first start.
    """

    name: str
    label: str
    argv: Sequence[str] = field(repr=False)  # with the environment, it may hold what is in a Secret
    env: Mapping[str, str] = field(repr=False)
    cwd: Path
    log: Path
    target: Target
    startup: Probe | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None
    pre_stop: LifecycleHandler | None = None
    restart: str = "Always"
    image: str = ""
    is_init: bool = False
    pending: str = "ContainerCreating"
    mounts: Sequence[Mount] = ()
    enclosure: Enclosure | None = None


class Running(Protocol):
    """One life of a container. What is asked of it once it has ended does nothing."""

    @property
    def is_running(self) -> bool: ...

    async def wait(self) -> int:
        """The exit code, negative for a signal. Nothing of the container runs any more then."""

    def signal(self, sig: Signals) -> None:
        """To the main process only."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def kill(self) -> None:
        """SIGKILL to all of it."""

    async def end(self, grace_s: float) -> int:
        """SIGTERM, also to what is paused, and SIGKILL when it is still there after `grace_s` seconds."""


class Runtime(Protocol):
    """What runs containers."""

    async def run(self, plan: ContainerPlan) -> Running:
        """Raises OSError when it cannot be started."""

    async def exec(self, plan: ContainerPlan, command: Sequence[str], timeout_s: float) -> ExecResult:
        """Runs a command beside the container's process, in its environment and folder. Raises TimeoutError."""


class ContainerProcess:
    """The kubelet's view of one container. `on_change` is called after each change of `status`."""

    def __init__(self, plan: ContainerPlan, runtime: Runtime, spawn: Spawn, on_change: Callable[[], None]) -> None:
        self.plan = plan
        self._runtime = runtime
        self._spawn = spawn
        self._on_change = on_change
        self._running: Running | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._probe_failure = ""
        self.status = ContainerStatus(name=plan.name, image=plan.image, state=_waiting(plan.pending))

    def start(self) -> None:
        """Nothing happens once it was told to stop."""
        if not self._stopping:
            self._task = self._spawn(self._run())

    async def complete(self) -> bool:
        """Starts it and waits until it has ended for good. Whether it has ended with success, and by itself."""
        self.start()
        if self._task is not None:
            await asyncio.wait([self._task])
        return self.status.ready and not self._stopping

    def signal(self, sig: Signals) -> None:
        if self._running is not None:
            self._running.signal(sig)

    def pause(self) -> None:
        if self._running is not None:
            self._running.pause()

    def resume(self) -> None:
        if self._running is not None:
            self._running.resume()

    def kill(self) -> None:
        if self._running is not None:
            self._running.kill()

    async def prepare_to_stop(self, grace_s: float) -> None:
        """Carries out `lifecycle.preStop`, for at most `grace_s` seconds; its outcome does not matter."""
        hook = self.plan.pre_stop
        if hook is None or self._running is None or not self._running.is_running:
            return
        if hook.sleep is not None:
            await asyncio.sleep(min(hook.sleep.seconds, grace_s))
        elif hook.exec is not None:
            with contextlib.suppress(TimeoutError):
                await self.exec(hook.exec.command, grace_s)

    async def stop(self, grace_s: float) -> None:
        """Ends the process and its restarts. Returns when it is gone."""
        self._stopping = True
        if self._running is not None and self._running.is_running:
            await self._running.end(grace_s)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def exec(self, command: Sequence[str], timeout_s: float) -> ExecResult:
        return await self._runtime.exec(self.plan, command, timeout_s)

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            began = time.monotonic()
            ended = await self._once()
            if self._stopping or not self._wants_restart(ended):
                self._change(ready=self.plan.is_init and not ended["terminated"]["exitCode"], state=ended)
                return
            delay = backoff.after(time.monotonic() - began)
            self._change(ready=False, state=self._back_off(delay, ended), last_state=ended)
            await asyncio.sleep(delay)
            self._change(restart_count=self.status.restart_count + 1)

    async def _once(self) -> dict[str, Any]:
        """One life of the process. Returns its state `terminated`."""
        started_at = _now()
        self._probe_failure = ""
        try:
            running = await self._runtime.run(self.plan)
        except OSError as error:
            return _terminated(128, started_at, "StartError", str(error))
        self._running = running
        self._change(
            state={"running": {"startedAt": started_at}},
            started=self.plan.startup is None,
            ready=self.plan.startup is None and self._is_ready_as_it_runs,
        )
        probing = self._spawn(self._probe_all(running))
        try:
            code = await running.wait()
        finally:
            probing.cancel()
        return _ended(code, started_at, self._probe_failure)

    async def _probe_all(self, running: Running) -> None:
        if self.plan.startup is not None and not await self._has_started(self.plan.startup, running):
            return
        self._change(started=True, ready=self._is_ready_as_it_runs)
        async with asyncio.TaskGroup() as both:
            if self.plan.readiness is not None:
                both.create_task(self._probe_readiness(self.plan.readiness))
            if self.plan.liveness is not None:
                both.create_task(self._probe_liveness(self.plan.liveness, running))

    async def _has_started(self, probe: Probe, running: Running) -> bool:
        async for healthy, why in self._results(probe, eager=True):
            if not healthy:
                self._kill(running, f"startup probe failed: {why}", probe)
            return healthy
        return False

    async def _probe_readiness(self, probe: Probe) -> None:
        async for healthy, _ in self._results(probe, eager=True):
            if healthy != self.status.ready:
                self._change(ready=healthy)

    async def _probe_liveness(self, probe: Probe, running: Running) -> None:
        async for healthy, why in self._results(probe, eager=False):
            if not healthy:
                self._kill(running, f"liveness probe failed: {why}", probe)
                return

    async def _results(self, probe: Probe, *, eager: bool) -> AsyncIterator[tuple[bool, str]]:
        """Yields (healthy, why not) each time a threshold is reached."""
        tally = Tally(probe.success_threshold, probe.failure_threshold)
        await asyncio.sleep(probe.initial_delay_seconds)
        counted_at = time.monotonic()
        while True:
            why = await run_probe(probe, self.plan.target, self.exec)
            early = eager and tally.verdict is None
            due = time.monotonic() - counted_at >= probe.period_seconds
            if why is None or not early or due:
                counted_at = time.monotonic()
                if tally.add(why is None):
                    yield why is None, why or ""
            early = eager and tally.verdict is None
            await asyncio.sleep(eager_pause_s(probe) if early else probe.period_seconds)

    @property
    def _is_ready_as_it_runs(self) -> bool:
        return self.plan.readiness is None and not self.plan.is_init

    def _kill(self, running: Running, why: str, probe: Probe) -> None:
        self._probe_failure = why
        running.signal(signal.SIGTERM)
        grace = probe.termination_grace_period_seconds
        asyncio.get_running_loop().call_later(30 if grace is None else grace, running.kill)

    def _wants_restart(self, ended: Mapping[str, Any]) -> bool:
        if self.plan.restart == "OnFailure":
            return bool(ended["terminated"]["exitCode"])
        return self.plan.restart == "Always"

    def _back_off(self, delay: float, ended: Mapping[str, Any]) -> dict[str, Any]:
        if delay == 0:
            return dict(ended)
        what = ended["terminated"]["message"]
        return _waiting("CrashLoopBackOff", f"back-off {delay:g}s restarting {self.plan.label}: {what}")

    def _change(self, **fields: Any) -> None:
        changed = replace(self.status, **fields)
        if changed != self.status:
            self.status = changed
            self._on_change()


def _waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def _ended(code: int, started_at: str, probe_failure: str) -> dict[str, Any]:
    if code < 0:
        how = f"killed by {signal.Signals(-code).name}"
        return _terminated(128 - code, started_at, "Error", probe_failure or how, sig=-code)
    return _terminated(code, started_at, "Error" if code else "Completed", probe_failure or f"exit code {code}")


def _terminated(code: int, started_at: str, reason: str, message: str, sig: int = 0) -> dict[str, Any]:
    fields = {"exitCode": code, "reason": reason, "message": message, "startedAt": started_at, "finishedAt": _now()}
    return {"terminated": fields | ({"signal": sig} if sig else {})}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
