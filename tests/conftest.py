"""Options of the whole suite, and its own hygiene: no test may leave a process behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests import orphans

_REAPER = pytest.StashKey["subprocess.Popen[bytes]"]()
_PATIENCE_S = 10.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write golden files from what the code gives now")
    parser.addoption("--kills", type=int, default=1, help="how often `up` is killed on each platform (1)")
    parser.addoption("--kill-seed", type=int, default=1, help="chooses the moments of the kills (1)")


def pytest_configure(config: pytest.Config) -> None:
    """From here on every process that is started carries the run's mark, but for the one that looks for it."""
    mark = uuid.uuid4().hex
    config.stash[_REAPER] = subprocess.Popen(
        [sys.executable, str(Path(orphans.__file__)), mark], stdin=subprocess.PIPE, start_new_session=True
    )
    os.environ[orphans.MARK] = mark
    # What a test is about may be the same on all platforms; those that are about another one say so.
    os.environ.setdefault("MESHDRILL_PLATFORM", "process")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process that outlives its test fails the run."""
    mark = os.environ[orphans.MARK]
    deadline = time.monotonic() + _PATIENCE_S
    while (left := orphans.marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        for pid, command in left.items():
            print(f"\nleft running by a test: {pid} {command}")


def pytest_unconfigure(config: pytest.Config) -> None:
    reaper = config.stash[_REAPER]
    reaper.communicate()
