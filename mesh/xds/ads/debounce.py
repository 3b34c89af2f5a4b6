"""Waits for a burst of changes to end, but not for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

QUIET_S: Final = 0.010
LONGEST_S: Final = 0.100


class Debounce:
    """Calls `fire` when no `trigger` came for QUIET_S, at the latest LONGEST_S after the first."""

    def __init__(self, fire: Callable[[], None]) -> None:
        self._fire = fire
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0

    def trigger(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._timer is None:
            self._deadline = now + LONGEST_S
        elif self._timer.when() >= self._deadline:
            return
        else:
            self._timer.cancel()
        self._timer = loop.call_at(min(now + QUIET_S, self._deadline), self._done)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _done(self) -> None:
        self._timer = None
        self._fire()
