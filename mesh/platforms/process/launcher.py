"""Starts processes, each the leader of a session of its own, recorded in the ledger and bound to our life."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import Signals
from weakref import WeakValueDictionary

from mesh.lifeline import die_with_parent
from mesh.platforms.base import MAX_OUTPUT, ExecResult
from mesh.platforms.process.container import ContainerPlan
from mesh.platforms.process.ledger import Ledger
from mesh.platforms.process.logs import open_log

_PYTHONS = ("python", "python3")


class ProcessGroup:
    """A running process and whatever it started."""

    def __init__(self, process: asyncio.subprocess.Process, ledger: Ledger) -> None:
        self._process = process
        self._ledger = ledger

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> int:
        """The exit code, negative for a signal. What it left of its group is killed, as when a container ends."""
        code = await self._process.wait()
        self.signal_all(signal.SIGKILL)
        self._ledger.remove(self.pid)
        return code

    def signal(self, sig: Signals) -> None:
        """To the main process only, as a container runtime does."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):  # it ended a moment ago
                self._process.send_signal(sig)

    def signal_all(self, sig: Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, sig)

    def pause(self) -> None:
        if self.is_running:
            self.signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        if self.is_running:
            self.signal_all(signal.SIGCONT)

    def kill(self) -> None:
        if self.is_running:
            self.signal_all(signal.SIGKILL)

    async def end(self, grace_s: float) -> int:
        """SIGTERM, and SIGKILL to all of it when it is still there after `grace_s` seconds."""
        self.signal(signal.SIGTERM)
        self.signal_all(signal.SIGCONT)  # a paused process would never see the SIGTERM
        try:
            return await asyncio.wait_for(self.wait(), grace_s)
        except TimeoutError:
            self.signal_all(signal.SIGKILL)
            return await self.wait()


class Launcher:
    """Must be used in the main thread: the kernel binds a child to the thread that started it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._bind_to_us = die_with_parent()
        self._groups: WeakValueDictionary[str, ProcessGroup] = WeakValueDictionary()

    async def run(self, plan: ContainerPlan) -> ProcessGroup:
        """See `mesh.platforms.process.container.Runtime`."""
        enter = None if plan.enclosure is None else plan.enclosure.enter
        group = await self.start(plan.label, plan.argv, env=plan.env, cwd=plan.cwd, log=plan.log, enter=enter)
        self._groups[plan.label] = group
        return group

    async def exec(self, plan: ContainerPlan, command: Sequence[str], timeout_s: float) -> ExecResult:
        """See `mesh.platforms.process.container.Runtime`."""
        group = self._groups.get(plan.label)
        enclosure = plan.enclosure
        if enclosure is not None and (group is None or not group.is_running):
            return ExecResult(126, f"container {plan.name} is not running")
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=plan.env,
                cwd=plan.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=None if enclosure is None or group is None else enclosure.join(group.pid),
            )
        except (OSError, subprocess.SubprocessError) as error:
            return ExecResult(127, str(error))
        try:
            output, _ = await asyncio.wait_for(process.communicate(), timeout_s)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return ExecResult(process.returncode or 0, output[:MAX_OUTPUT].decode(errors="replace"))

    async def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        enter: Callable[[], None] | None = None,
    ) -> ProcessGroup:
        """Runs `argv`, its output appended to `log`; `enter` is called in the child before. Raises OSError when it
        cannot be started."""
        output = open_log(log)
        bind = self._bind_to_us
        try:
            process = await asyncio.create_subprocess_exec(
                *_resolved(argv),
                env={**env, **self._ledger.mark},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_in_turn(bind, enter),
            )
        except subprocess.SubprocessError as error:
            raise OSError(f"{error} See the container's log.") from error
        finally:
            os.close(output)
        self._ledger.add(process.pid, name)
        return ProcessGroup(process, self._ledger)


def base_environment() -> dict[str, str]:
    """What an image would give: a PATH on which our interpreter's tools come first, a home, a language. Nothing else of
    our own environment, so that no secret or proxy setting of the user's shell reaches an app."""
    tools = str(Path(sys.executable).parent)
    result = {"PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}", "PYTHONUNBUFFERED": "1"}
    for name in ("HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"):
        if name in os.environ:
            result[name] = os.environ[name]
    return result


def _in_turn(first: Callable[[], None] | None, second: Callable[[], None] | None) -> Callable[[], None] | None:
    if first is None or second is None:
        return first or second

    def both() -> None:
        first()
        second()

    return both


def _resolved(argv: Sequence[str]) -> list[str]:
    """`python` means the interpreter we run in, whose environment has the dependencies."""
    return [sys.executable if argv[0] in _PYTHONS else argv[0], *argv[1:]]
