"""Signals that end a run, raised only where undoing begins at once, so that no undoing is ever cut short."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """The first signal becomes a KeyboardInterrupt inside a `let_through` block; until then it waits. Later ones change
    nothing: what follows the first is undoing, and that is bounded in time. For the main thread."""

    def __init__(self) -> None:
        self._came = False
        self._open = False

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Signals are this object's for the length of the block."""
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """A signal inside the block, or waiting for it, raises KeyboardInterrupt."""
        self._open = True
        try:
            self.raise_if_came()
            yield
        finally:
            self._open = False

    def raise_if_came(self) -> None:
        """For the end of a stretch in which an error of its own may have taken the interrupt's place."""
        if self._came:
            raise KeyboardInterrupt

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._came:
            return
        self._came = True
        if self._open:
            # Closed before the stack unwinds: the `finally` above may lie several undoings away.
            self._open = False
            raise KeyboardInterrupt
