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
def demo(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """The demo, with all that it makes in `folder`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mesh.cli.main", "demo", "--out", str(folder / "results")],
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def read_until(process: "subprocess.Popen[str]", words: str) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            return
    pytest.fail(f"{words!r} was not said:\n{''.join(seen)}")


def test_every_drill_passes_and_nothing_is_left(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        output, _ = process.communicate(timeout=BOUND_S)
    [folder] = (tmp_path / "results").iterdir()
    run = Run(process.returncode, output, folder)
    assert run.code == 0, output
    assert [each["experiment"]["name"] for each in run.journal] == [each.name for each in drill.built_in()]
    assert set(run.outcomes.values()) == {"held"}
    assert all(suite.get("failures") == suite.get("errors") == "0" for suite in run.junit)
    assert processes_of(tmp_path) == {}
    assert [each.name for each in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize("words", ["pods ready", "Drill canary-split"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals, words: str) -> None:
    with demo(tmp_path) as process:
        read_until(process, words)
        process.send_signal(number)
        process.communicate(timeout=BOUND_S)
        assert process.returncode == 130
        assert processes_of(tmp_path) == {}
    assert not list(tmp_path.glob("meshdrill-demo-*"))


def test_a_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        read_until(process, "Drill canary-split")
        until(lambda: any("locust" in command for command in processes_of(tmp_path).values()), "Locust runs")
        process.kill()
        until(lambda: not processes_of(tmp_path), "every process is gone")
