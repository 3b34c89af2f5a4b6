"""Locust load beneath a drill, and the verdict on it: while faults come and go, its users must not notice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from chaos import drill
from chaos.errors import CannotMeasure
from chaos.verdict import Outcome, Verdict, judge
from chaos.waiting import wait_until
from loadtests.events import Event
from loadtests.plan import LoadPlan, Request
from loadtests.run import Load as Locust
from loadtests.run import LoadRun

START_S = 20.0
LONGEST_S = 1800
SHOWN = 3
NAME = "users under load see no failure"


class Load:
    """Locust at work for the length of the block, its files in `folder`."""

    def __init__(self, spec: drill.Load, gateway: str, folder: Path) -> None:
        requests = tuple(Request(path) for path in spec.paths)
        plan = LoadPlan(requests, pace_seconds=1 / spec.rate, expect_statuses=frozenset(spec.expect))
        self._run = LoadRun(gateway, users=spec.users, spawn_rate=spec.users, seconds=LONGEST_S, plan=plan)
        self._folder = folder
        self._expect = frozenset(spec.expect)
        self._events: list[Event] = []
        self._stopped = self._died = False

    def __enter__(self) -> Load:
        self._locust = Locust(self._run, self._folder)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def await_first(self) -> None:
        """Returns when the first request is answered; CannotMeasure with the log's end when that does not come."""
        wait_until(lambda: not self._locust.is_running or any(True for _ in self._locust.events()), START_S)
        if not self._locust.is_running:
            raise CannotMeasure(
                f"Locust did not start; is it installed (pip install 'meshdrill[load]')?\n{self._locust.log_tail()}"
            )
        if not any(True for _ in self._locust.events()):
            raise CannotMeasure(f"Locust made no request within {START_S:g} s:\n{self._locust.log_tail()}")

    def stop(self) -> None:
        """Ends the load and takes stock. Once it ended, this does nothing."""
        if self._stopped:
            return
        self._died = not self._locust.is_running
        self._locust.stop()
        self._events = list(self._locust.events())
        self._stopped = True

    def verdict(self) -> Verdict:
        """Violated by any request that failed or whose status is not expected; no request at all is no measurement."""
        if self._died:
            return Verdict(NAME, Outcome.NOT_MEASURED, f"Locust ended by itself:\n{self._locust.log_tail()}")
        if not self._events:
            return Verdict(NAME, Outcome.NOT_MEASURED, f"no request was made:\n{self._locust.log_tail()}")
        wrong = [event for event in self._events if event.error or event.status not in self._expect]
        seen = ", ".join(f"{e.method} {e.name}: {e.error or f'status {e.status}'}" for e in wrong[:SHOWN])
        problems = [f"{len(wrong)} of {len(self._events)} failed: {seen}"] if wrong else []
        return judge(NAME, problems, f"{len(self._events)} requests, none failed", self.summary())

    def summary(self) -> dict[str, Any]:
        """Requests by status, and latency in ms."""
        took = sorted(event.ms for event in self._events)
        return {
            "requests": len(took),
            "statuses": dict(Counter(str(event.status) for event in self._events)),
            "median_ms": round(took[len(took) // 2], 1) if took else None,
            "slowest_ms": round(took[-1], 1) if took else None,
        }

    def timeline(self) -> list[tuple[float, float, str]]:
        """A point a request, for a picture."""
        return [(event.start, event.ms, f"{event.name} {event.status or 'no answer'}") for event in self._events]
