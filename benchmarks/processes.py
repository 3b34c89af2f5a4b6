"""Processes pinned to a core: started in sessions of their own, so that their cost is counted and none is left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
START_PATIENCE = 20.0


class DidNotStart(Exception):
    """A process ended or stayed silent; says what it printed."""


@dataclass(frozen=True)
class Usage:
    """CPU seconds and resident bytes of a session's processes."""

    cpu: float
    memory: int


class Pinned:
    """A process and its children on one core, ended with the `with` block whatever happens in it."""

    def __init__(self, command: list[str], core: int, folder: Path, name: str) -> None:
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(core), *command], stdout=log, stderr=log, cwd=folder, start_new_session=True
            )

    def __enter__(self) -> Pinned:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def wait_for(self, url: str) -> None:
        """Return when the URL answers 200. Raises DidNotStart."""
        deadline = time.monotonic() + START_PATIENCE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(url, timeout=1) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.02)
        raise DidNotStart(f"{url} did not answer:\n{self._log.read_text(errors='replace')[-3000:]}")

    def wait_for_word(self, word: str) -> None:
        """Return when the process has printed the word. Raises DidNotStart."""
        deadline = time.monotonic() + START_PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            if word in self._log.read_text(errors="replace"):
                return
            time.sleep(0.02)
        raise DidNotStart(f"no {word!r} came:\n{self._log.read_text(errors='replace')[-3000:]}")

    def usage(self) -> Usage:
        """What the session has used until now."""
        cpu = memory = 0
        for fields in _session_fields(self._process.pid):
            cpu += int(fields[11]) + int(fields[12])
            memory += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        return Usage(cpu / CLOCK_TICKS, memory)


def _session_fields(session: int) -> Iterator[list[str]]:
    """Fields of proc_pid_stat(5) from `state` on, for each process of a session."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session:
            yield fields


def core_seconds(core: int) -> float:
    """CPU seconds that a core has been busy with anything, from proc_stat(5)."""
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / CLOCK_TICKS


@contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that every `with` block ends its process."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
