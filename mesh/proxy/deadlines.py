"""Deadlines by sweep: one coarse timer for everything that may run out of time, instead of a timer a request.

A timer made and cancelled per request costs more than parsing its head. Joining this set costs two dictionary
operations, and the sweep looks at what is there every `tick`. So a deadline is kept to within one tick, never early.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Timed(Protocol):
    """Something that may run out of time. `deadline` is in monotonic seconds of the loop; infinity for none."""

    deadline: float

    def deadline_passed(self, now: float) -> None:
        """The sweep found `deadline <= now`. Either leave the set, or set a later deadline."""


class Deadlines:
    """A set of `Timed`, swept every `tick` seconds while it is not empty."""

    __slots__ = ("_loop", "_members", "_sweeping", "_tick")

    def __init__(self, loop: asyncio.AbstractEventLoop, tick: float) -> None:
        self._loop = loop
        self._tick = tick
        self._members: dict[Timed, None] = {}
        self._sweeping = False

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: Timed) -> None:
        self._members[member] = None
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(self._tick, self._sweep)

    def discard(self, member: Timed) -> None:
        self._members.pop(member, None)

    def _sweep(self) -> None:
        if not self._members:
            self._sweeping = False
            return
        self._loop.call_later(self._tick, self._sweep)
        now = self._loop.time()
        for member in [m for m in self._members if m.deadline <= now]:
            if member in self._members:  # an earlier one may have ended it
                member.deadline_passed(now)
