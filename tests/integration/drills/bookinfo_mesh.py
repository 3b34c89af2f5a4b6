"""Bookinfo on a mesh of the tests' own, driven by the command as users do, and what a run of drills left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from chaos import drill
from mesh.client import MeshClient

BOUND_S = 100.0


def until(condition: Callable[[], Any], what: str, within_s: float = 30.0) -> Any:
    """The first true value of the condition; the test fails when there is none in time."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within_s:g} s: {what}")
        time.sleep(0.05)
    return value


def processes_of(folder: Path) -> dict[int, str]:
    """All processes but this one that name the folder in their command, environment or working folder."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # it ended meanwhile
                command = (entry / "cmdline").read_bytes()
                traces = [command, (entry / "environ").read_bytes(), os.readlink(entry / "cwd").encode()]
                if command and any(str(folder).encode() in trace for trace in traces):
                    found[int(entry.name)] = command.replace(b"\0", b" ").decode()
    return found


def built_in(name: str) -> dict[str, Any]:
    """A drill that comes along, as plain YAML, to be changed."""
    loaded: dict[str, Any] = yaml.safe_load((drill.BUILT_IN / f"{name}.yaml").read_text())
    return loaded


@dataclass(frozen=True)
class Run:
    """A finished `meshdrill drill run`."""

    code: int
    output: str
    folder: Path | None

    @property
    def journal(self) -> list[dict[str, Any]]:
        assert self.folder is not None, self.output
        drills: list[dict[str, Any]] = json.loads((self.folder / "journal.json").read_text())
        return drills

    @property
    def outcomes(self) -> dict[str, str]:
        """Outcome by name of the check, of all drills; of two with one name, the worse one last."""
        verdicts = [check for each in self.journal for phase in each["run"] for check in phase["checks"]]
        return {check["name"]: check["outcome"] for check in sorted(verdicts, key=lambda c: c["outcome"] != "held")}

    @property
    def junit(self) -> ElementTree.Element:
        assert self.folder is not None, self.output
        return ElementTree.parse(self.folder / "junit.xml").getroot()


@dataclass
class Bookinfo:
    """A mesh with Bookinfo; everything that it makes lies in `folder`.

    Without a `platform` it is the environment's.
    """

    folder: Path
    engine: str
    platform: str = ""
    url: str = field(default="", init=False)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def meshdrill(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "mesh.cli.main", *arguments]

    def up(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        kind = ["--proxy", self.engine, *(["--platform", self.platform] if self.platform else [])]
        command = self.meshdrill("up", "-d", *kind, "--port", str(port), "--state", str(self.state))
        done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        self.url = f"http://127.0.0.1:{port}"

    def down(self) -> None:
        subprocess.run(self.meshdrill("down", "--state", str(self.state)), timeout=BOUND_S, check=True)

    def client(self) -> MeshClient:
        return MeshClient.from_state(self.state)

    def faults(self) -> list[str]:
        with self.client() as client:
            return [fault["metadata"]["name"] for fault in client.list("Fault").items]

    def start(self, *drills: str, out: Path) -> subprocess.Popen[str]:
        """`meshdrill drill run`, in the background."""
        command = self.meshdrill("drill", "run", *drills, "--state", str(self.state), "--out", str(out))
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def drill(self, *drills: str, out: Path) -> Run:
        """`meshdrill drill run`, to its end."""
        return self.finish(self.start(*drills, out=out), out)

    def finish(self, process: subprocess.Popen[str], out: Path) -> Run:
        output, _ = process.communicate(timeout=BOUND_S)
        folders = sorted(out.iterdir()) if out.exists() else []
        return Run(process.returncode, output, folders[-1] if folders else None)

    def changed(self, manifest: dict[str, Any], out: Path) -> Run:
        """Runs a drill from a file with that content."""
        out.mkdir(exist_ok=True)
        file = out.parent / f"{manifest['metadata']['name']}-changed.yaml"
        file.write_text(yaml.safe_dump(manifest, sort_keys=False))
        return self.drill(str(file), out=out)


@contextlib.contextmanager
def running(folder: Path, engine: str, platform: str = "") -> Iterator[Bookinfo]:
    """A mesh for the length of the block. Nothing of it is left afterwards."""
    mesh = Bookinfo(folder, engine, platform)
    try:
        mesh.up()
        yield mesh
    finally:
        mesh.down()
    until(lambda: not processes_of(folder), "every process is gone", 5.0)


def end(process: subprocess.Popen[str], number: signal.Signals) -> int:
    """Sends the signal and waits; the exit code."""
    process.send_signal(number)
    return process.wait(BOUND_S)
