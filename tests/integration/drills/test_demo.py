"""`meshdrill demo`: every drill passes on our sidecar, and however the demo ends, nothing of it is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bookinfo_mesh import Run, processes_of, until

from chaos import drill

pytestmark = pytest.mark.bookinfo
BOUND_S = 115.0


@contextmanager
def demo(out: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """The demo, and the state folder of its mesh."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mesh.cli.main", "demo", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process, until(lambda: mesh_of(process.pid), "the demo's mesh is started")
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def mesh_of(demo_pid: int) -> Path | None:
    """The state folder that the demo has given to its child."""
    command = ["ps", "-ww", "-o", "args=", "--ppid", str(demo_pid)]
    words = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return Path(words[words.index("--state") + 1]) if "--state" in words else None


def left(*folders: Path) -> dict[int, str]:
    return {pid: command for folder in folders for pid, command in processes_of(folder).items()}


def read_until(process: "subprocess.Popen[str]", words: str) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            return
    pytest.fail(f"{words!r} was not said:\n{''.join(seen)}")


def test_every_drill_passes_and_nothing_is_left(out: Path) -> None:
    with demo(out) as (process, mesh):
        output, _ = process.communicate(timeout=BOUND_S)
    [folder] = out.iterdir()
    run = Run(process.returncode, output, folder)
    assert run.code == 0, output
    assert [each["experiment"]["name"] for each in run.journal] == [each.name for each in drill.built_in()]
    results = {each["experiment"]["name"]: each["result"] for each in run.journal}
    if os.environ["MESHDRILL_PLATFORM"] == "process":
        assert results.pop("network-partition") == "skipped"  # it needs a network of the pods' own
    assert set(results.values()) == {"passed"}
    assert all(suite.get("failures") == suite.get("errors") == "0" for suite in run.junit)
    assert left(out, mesh) == {}
    assert not mesh.exists()


@pytest.mark.parametrize("words", ["pods ready", "Drill canary-split"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(out: Path, number: signal.Signals, words: str) -> None:
    with demo(out) as (process, mesh):
        read_until(process, words)
        process.send_signal(number)
        process.communicate(timeout=BOUND_S)
        assert process.returncode == 130
        assert left(out, mesh) == {}
        assert not mesh.exists()


def test_a_killed_demo_leaves_nothing(out: Path) -> None:
    with demo(out) as (process, mesh):
        read_until(process, "Drill canary-split")
        until(lambda: processes_of(out), "Locust runs")
        process.kill()
        until(lambda: not left(out, mesh), "every process is gone")
        until(lambda: not mesh.exists(), "its folder is gone")
