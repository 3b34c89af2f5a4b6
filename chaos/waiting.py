"""Waiting for a condition, always with a bound."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_S = 0.05


def wait_until(holds: Callable[[], bool], within_s: float) -> bool:
    """Polls until the condition holds, and once at least; whether it came to hold in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True
