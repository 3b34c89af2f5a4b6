"""What happened to the effective view, in order, and subscriptions that read along.

A subscription holds a position, not a queue: a slow reader costs no memory, and one that falls behind the history is
told so (GoneError) rather than missing an event.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mesh.config.decode import Manifest
from mesh.config.keys import GoneError

HISTORY_EVENTS = 5_000
"""Events kept at least, twice as many at most; a small object's takes 3 KiB of memory. Older ones are forgotten."""


class EventType(StrEnum):
    """As in Kubernetes' watch stream."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Event:
    """`manifest` is the object after the change, or as it last was when deleted, its resourceVersion being `version`.

    `previous` is what readers saw before, None for an ADDED object.
    """

    type: EventType
    manifest: Manifest
    version: int
    previous: Manifest | None = None


Match = Callable[[Manifest], bool]


class History:
    """Events in version order. `floor` is the oldest version that a reader can still continue from."""

    def __init__(self, version: int) -> None:
        self._events: list[Event] = []
        self._waiters: set[asyncio.Future[None]] = set()
        self.floor = version
        self.version = version

    def append(self, events: Sequence[Event], version: int) -> None:
        """Adds one transaction's events; readers get them together."""
        self._events.extend(events)
        self.version = version
        if len(self._events) > 2 * HISTORY_EVENTS:
            self.floor = self._events[-HISTORY_EVENTS - 1].version
            del self._events[:-HISTORY_EVENTS]
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def since(self, version: int) -> Sequence[Event]:
        """All events after a version. Raises GoneError when some of them are forgotten, or the version is not ours."""
        if version < self.floor:
            raise GoneError(f"resourceVersion {version} is too old; the oldest known is {self.floor}: list again")
        if version > self.version:
            raise GoneError(f"resourceVersion {version} is from another store, ours is at {self.version}: list again")
        return self._events[bisect_right(self._events, version, key=lambda event: event.version) :]

    async def changed(self, version: int) -> None:
        """Waits until there is anything after `version`."""
        while self.version == version:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)


def _everything(_: Manifest) -> bool:
    return True


class Subscription:
    """Events after a version, of the objects that match, each once and in order.

    An object that starts or stops matching is ADDED or DELETED to this reader, as in Kubernetes' selector watches. Read
    it from one task of the store's own event loop. Waiting is cancellable; a cancelled wait loses nothing.
    """

    def __init__(self, history: History, since: int, match: Match | None = None) -> None:
        history.since(since)
        self._history = history
        self._match = match or _everything
        self.version = since

    def pending(self) -> list[Event]:
        """What has happened since the last call, whole transactions only, without waiting. Raises GoneError."""
        events = self._history.since(self.version)
        self.version = self._history.version
        return [seen for event in events if (seen := self._seen(event))]

    async def advance(self) -> list[Event]:
        """Waits for the next transaction; its events, none where it changed nothing that is seen. Raises GoneError."""
        await self._history.changed(self.version)
        return self.pending()

    async def batch(self) -> list[Event]:
        """Waits for the next events and returns all there are, whole transactions only. Raises GoneError."""
        while True:
            if events := await self.advance():
                return events

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            for event in await self.batch():
                yield event

    def _seen(self, event: Event) -> Event | None:
        before = event.previous is not None and self._match(event.previous)
        after = event.type is not EventType.DELETED and self._match(event.manifest)
        if not before and not after:
            return None
        kind = EventType.MODIFIED if before and after else EventType.ADDED if after else EventType.DELETED
        return event if kind is event.type else Event(kind, event.manifest, event.version, event.previous)
