"""One JSON line a request, written by the Locust process and read by whoever judges the run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """A request that ended: `start` in seconds of the epoch, `ms` until the whole answer was there.

    `status` is 0 where no answer came. `error` is empty for a success and for an expected status.
    """

    start: float
    ms: float
    method: str
    name: str
    status: int
    served_by: str
    served_version: str
    error: str


class EventLog:
    """Appends events to a file. Each flush is one write of whole lines, so that workers can share a file."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._lines: list[str] = []

    def add(self, event: Event) -> None:
        self._lines.append(json.dumps(asdict(event), separators=(",", ":")))

    def flush(self) -> None:
        if not self._lines:
            return
        data = ("\n".join(self._lines) + "\n").encode()
        self._lines.clear()
        while data:
            data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        self.flush()
        os.close(self._descriptor)


def read_events(path: Path) -> Iterator[Event]:
    """The events so far; a line that is still being written is left for the next reading."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                decoded: dict[str, Any] = json.loads(line)
                yield Event(**decoded)
