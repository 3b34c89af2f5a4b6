"""The engines that are judged, as processes started from one bootstrap file and asked through their admin pages."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.frame import MARK
from tests.real_envoy import real_envoy

PATIENCE = 10.0  # how long a loaded machine may take; what fails only waits so long
START_PATIENCE = 20.0
STOP_PATIENCE = 5.0


class EngineFailed(Exception):
    """An engine did not start, or did not stay up; says what it printed."""


def command(engine: str, bootstrap: Path) -> list[str]:
    """How an engine is started on a bootstrap file with one worker."""
    if engine == "python":
        return [
            sys.executable,
            "-m",
            "mesh.proxy",
            "-c",
            str(bootstrap),
            "--concurrency",
            "1",
            "--log-level",
            "warning",
        ]
    # As Istio starts it: what drains says so with each response, not with more and more of them.
    drain = ["--drain-strategy", "immediate"]
    options = ["--concurrency", "1", "--disable-hot-restart", "--file-flush-interval-msec", "20", "-l", "warning"]
    return [real_envoy(), "-c", str(bootstrap), *options, *drain]


class Engine:
    """A running data plane and its admin page; `rename` puts names for this run's addresses into what the page says."""

    def __init__(self, name: str, bootstrap: Path, address: str, port: int, rename: Callable[[str], str]) -> None:
        self.name = name
        self._rename = rename
        self.admin = f"http://{address}:{port}"
        self._log = bootstrap.with_name(f"{name}.log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command(name, bootstrap), stdout=log, stderr=log, cwd=bootstrap.parent, start_new_session=True
            )

    def wait_ready(self) -> None:
        """Return when `/ready` answers 200. Raises EngineFailed with the engine's output."""
        deadline = time.monotonic() + START_PATIENCE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise EngineFailed(f"{self.name} ended with {self._process.returncode}:\n{self.output()}")
            try:
                if self.get("/ready")[0] == 200:
                    return
            except OSError:
                time.sleep(0.02)
        raise EngineFailed(f"{self.name} was not ready in {START_PATIENCE:.0f} s:\n{self.output()}")

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        """Status and text of an admin page."""
        request = urllib.request.Request(self.admin + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, self._rename(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def stats(self) -> dict[str, int]:
        """All counters and gauges by name."""
        lines = (line.partition(": ") for line in self.get("/stats")[1].splitlines())
        return {name: int(value) for name, _, value in lines if value.lstrip("-").isdigit()}

    async def wait_for(self, settled: Callable[[dict[str, int]], bool], patience: float) -> dict[str, int]:
        """Poll the stats until `settled` says so or patience ends; the last reading either way."""
        deadline = time.monotonic() + patience
        while True:
            stats = await asyncio.to_thread(self.stats)
            if settled(stats) or time.monotonic() > deadline:
                return stats
            await asyncio.sleep(0.03)

    def output(self) -> str:
        """The end of what the engine printed."""
        return self._log.read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class TextLog:
    """The access log in Istio's default format, found again by what only one line has in it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lines(self) -> list[str]:
        """The whole lines so far: what is being written may be seen up to anywhere."""
        return self._path.read_text().rpartition("\n")[0].splitlines() if self._path.exists() else []

    async def wait_for(self, mark: str, start: int) -> str | None:
        """The first line with the word `mark`, not before line `start` (from 0), or None if none comes in time."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for line in self.lines()[start:]:
                if mark in line.split():  # not in it: a port may be the beginning of another one
                    return line
            if time.monotonic() > deadline:
                return None
            await asyncio.sleep(0.02)


class AccessLog:
    """The engine's access log, one JSON object a line, found again by the client's address."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._entries: dict[str, list[dict[str, str]]] = {}
        self._passed: dict[str, list[str]] = {}

    def _read_new(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as log:
            log.seek(self._offset)
            whole = log.read().rpartition(b"\n")[0]
        if not whole:
            return
        self._offset += len(whole) + 1
        for line in whole.splitlines():
            entry = {key: _text(value) for key, value in json.loads(line).items()}
            passed = self._passed.setdefault(entry["client"], [])
            if MARK in entry:
                passed.append(entry[MARK])
                continue
            entry[MARK] = " ".join(passed)
            passed.clear()
            self._entries.setdefault(entry["client"], []).append(entry)

    def counts(self) -> dict[str, int]:
        """How many entries there are so far of each client's address."""
        self._read_new()
        return {client: len(entries) for client, entries in self._entries.items()}

    async def wait_for(self, client: str, number: int) -> dict[str, str] | None:
        """The entry of the `number`th request (from 0) of a client address, or None if none comes in time."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self._read_new()
            entries = self._entries.get(client, [])
            if len(entries) > number:
                return entries[number]
            if time.monotonic() > deadline:
                return None
            await asyncio.sleep(0.02)


def _text(value: Any) -> str:
    """A value of a log line as cases write it: text as it is, the rest as JSON, `-` for null."""
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
