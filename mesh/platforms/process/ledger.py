"""What we started, on disk, so that another process can end it: one small file a process group.

A process is ours if its pid and start time are the recorded ones, or if its environment carries our mark. The mark
finds what left its process group, and what is left of a group whose leader is gone.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OWNER_VARIABLE = "MESHDRILL_OWNER"
"""Every process of a mesh has this variable; its value is the mesh's state folder."""

_POLL_S = 0.02


@dataclass(frozen=True)
class Record:
    """A process group that we started: its leader's pid (the group's id too) and the leader's start time.

    `space` is the pid namespace in which the pid means this process.
    """

    pid: int
    started: str
    name: str
    space: str


class Ledger:
    """The folder `<state>/processes`."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._folder = state / "processes"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def mark(self) -> dict[str, str]:
        """The variable that every process of this mesh must have in its environment."""
        return {OWNER_VARIABLE: str(self._state)}

    def add(self, pid: int, name: str) -> None:
        started = start_time(pid)
        if started is None:
            return  # it has ended already: nothing to end later
        file = self._folder / str(pid)
        file.write_text(json.dumps({"pid": pid, "started": started, "name": name, "space": _pid_space()}))

    def remove(self, pid: int) -> None:
        (self._folder / str(pid)).unlink(missing_ok=True)

    def records(self) -> Iterator[Record]:
        for file in sorted(self._folder.iterdir()):
            try:
                fields = json.loads(file.read_text())
                yield Record(int(fields["pid"]), str(fields["started"]), str(fields["name"]), str(fields["space"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # removed, or cut short by a kill in mid-write: the mark finds its process

    def ours(self) -> set[int]:
        """The pids alive that belong to this mesh, this process left out."""
        space = _pid_space()
        alive = {r.pid for r in self.records() if r.space == space and start_time(r.pid) == r.started}
        return (alive | marked(str(self._state))) - {os.getpid()}

    def sweep(self, patience_s: float = 5.0) -> list[int]:
        """Kills all that is ours, children of children too, and waits until it is gone. Returns the pids killed.

        Raises TimeoutError when something is still there after `patience_s`.
        """
        killed: set[int] = set()
        deadline = time.monotonic() + patience_s
        while pids := self.ours():
            for pid in pids:
                _kill(pid)
            killed |= pids
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes {sorted(pids)} are still there {patience_s} s after SIGKILL")
            time.sleep(_POLL_S)
        for file in self._folder.iterdir():
            file.unlink(missing_ok=True)
        return sorted(killed)


def _pid_space() -> str:
    """Names this process's pid namespace; empty where there are none."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def start_time(pid: int) -> str | None:
    """When the process started, in the system's own words; None if it is gone or a zombie."""
    if sys.platform != "linux":
        answer = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout.split(maxsplit=1)
        return None if len(answer) < 2 or answer[0].startswith("Z") else answer[1].strip()
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the command name before it may hold anything
    return None if fields[0] in "ZX" else fields[19]


def marked(owner: str) -> set[int]:
    """The pids whose environment carries the mark of `owner`. Empty where /proc does not exist."""
    wanted = f"{OWNER_VARIABLE}={owner}".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
        except OSError:
            continue  # gone, or another user's
    return {pid for pid in found if start_time(pid) is not None}


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    try:
        if os.getpgid(pid) == pid and pid != os.getpgrp():
            os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
