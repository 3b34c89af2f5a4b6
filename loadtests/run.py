"""Starts Locust as a process, waits for it, ends it, and reads what it saw. Imports no locust."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from .events import Event, read_events
from .plan import ENV_EVENTS, ENV_LIFELINE, LoadPlan

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
STOP_SECONDS = 12.0


class LoadError(Exception):
    """Locust did not do its work; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class LoadRun:
    """A run: `users` started at `spawn_rate` a second against `host` for whole `seconds`, or until stopped if None.

    Locust counts the time from its own start, so that load lasts up to half a second less. A plan with stages sets the
    number of users and the time itself.
    """

    host: str
    users: int = 10
    spawn_rate: float = 10.0
    seconds: int | None = None
    plan: LoadPlan = field(default_factory=LoadPlan)

    def command(self, folder: Path) -> list[str]:
        load = [] if self.plan.stages else ["--users", str(self.users), "--spawn-rate", f"{self.spawn_rate:g}"]
        time = ["--run-time", f"{self.seconds}s"] if self.seconds and not self.plan.stages else []
        return [
            *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--host", self.host, *load, *time),
            *("--stop-timeout", "8s", "--only-summary", "--exit-code-on-error", "1"),
            *(
                "--json-file",
                str(folder / "stats"),
                "--csv",
                str(folder / "stats"),
                "--html",
                str(folder / "load.html"),
            ),
        ]

    def environ(self, folder: Path) -> dict[str, str]:
        """The process's environment: the plan, and none of the caller's own settings of Locust or proxies."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LOCUST_", "MESHDRILL_")) and name.lower() not in PROXIES
        }
        search = os.pathsep.join(filter(None, (str(LOCUSTFILE.parent.parent), kept.get("PYTHONPATH", ""))))
        # Locust reads ~/.locust.conf: the folder as HOME keeps it out.
        settings = {
            "HOME": str(folder),
            "PYTHONPATH": search,
            ENV_EVENTS: str(folder / "events.jsonl"),
            ENV_LIFELINE: "1",
        }
        return kept | settings | self.plan.to_environ()


class Load:
    """Locust at work, in a folder of its own. As a context manager it ends with the block, whatever happens in it.

    Locust ends with this process too, however that ends.
    The folder gets events.jsonl, stats.json, stats_*.csv, load.html and locust.log.
    """

    def __init__(self, run: LoadRun, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "locust.log").open("wb") as log:
            self._process = subprocess.Popen(
                run.command(self.folder),
                cwd=self.folder,
                env=run.environ(self.folder),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        self._lifeline = self._process.stdin

    def __enter__(self) -> Load:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float) -> int:
        """Wait for the run's own end; its exit code, 1 if a request failed unexpectedly. Raises LoadError."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise LoadError(f"Locust still runs after {timeout:g} s:\n{self.log_tail()}") from error
        if code not in (0, 1) or not (self.folder / "stats.json").exists():
            raise LoadError(f"Locust ended with exit code {code}:\n{self.log_tail()}")
        return code

    def stop(self, timeout: float = STOP_SECONDS) -> int:
        """End it now: SIGTERM, so that requests in flight end and files are written, then SIGKILL. The exit code."""
        if self.is_running:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
        code = self._process.wait()
        self._lifeline.close()
        return code

    def _signal(self, number: signal.Signals) -> None:
        """To the whole group, as it may have started workers. It is the process's own and lives as long as that."""
        os.killpg(self._process.pid, number)

    def events(self) -> Iterator[Event]:
        """What was requested so far, in the order in which requests ended."""
        return read_events(self.folder / "events.jsonl")

    def log_tail(self, lines: int = 20) -> str:
        text = (self.folder / "locust.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])
