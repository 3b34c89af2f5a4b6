"""What each container of a running mesh holds in memory, on any platform: the PSS of its processes.

PSS (proc_pid_smaps(5)) counts a page that n processes share as 1/n of a page in each, so sums over processes are true.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from pathlib import Path

from mesh.platforms.docker.ownership import CONTAINER, POD, Ownership
from mesh.platforms.process.ledger import Ledger

MIB = 1 << 20

Key = tuple[str, str]
"""A pod's name and a container's."""


def memory_of_processes(state: Path, pods: set[str]) -> dict[Key, float]:
    """MiB by pod and container, where containers are processes that the mesh has written down (`process`, `netns`)."""
    here = _pids_by_space()
    found: dict[Key, float] = {}
    children = _children()
    for record in Ledger(state).records():
        pod, _, container = record.name.rpartition(".")
        pid = here.get((record.space, record.pid))
        if pod in pods and pid is not None:
            found[pod, container] = _pss(pid, children)
    return found


def memory_of_containers(state: Path, pods: set[str]) -> dict[Key, float]:
    """The same of Docker's containers, that of the pod's network (`POD`) included."""
    from mesh.platforms.docker.engine import Engine  # noqa: PLC0415 - takes the docker extra

    own = Ownership.of(state)
    found: dict[Key, float] = {}
    children = _children()
    with contextlib.closing(Engine()) as engine:
        for each in engine.do(engine.api.containers, filters=own.filters):
            pod, container = (each["Labels"].get(label, "") for label in (POD, CONTAINER))
            if pod in pods and own.covers(each["Labels"]):
                pid = engine.do(engine.api.inspect_container, each["Id"])["State"]["Pid"]
                found[pod, container] = _pss(pid, children)
    return found


def _pids_by_space() -> dict[tuple[str, int], int]:
    """The pid here of each process, by its pid namespace and the pid that it has in there."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            space = os.readlink(folder / "ns" / "pid")
            numbers = next(line for line in (folder / "status").read_text().splitlines() if line.startswith("NSpid:"))
            found[space, int(numbers.split()[-1])] = int(folder.name)
    return found


def _children() -> dict[int, list[int]]:
    found = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            found[int(path.read_text().rpartition(")")[2].split()[1])].append(int(path.parent.name))
    return found


def _pss(pid: int, children: dict[int, list[int]]) -> float:
    """Of a process and all below it. Raises PermissionError for somebody else's."""
    own = 0
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        own = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return own * 1024 / MIB + sum(_pss(child, children) for child in children[pid])
