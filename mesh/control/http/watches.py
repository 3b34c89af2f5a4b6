"""Watch streams: one JSON line an event, for as long as the reader stays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from mesh.config.decode import Manifest
from mesh.config.history import Event, EventType, Match, Subscription
from mesh.config.keys import GoneError
from mesh.config.store import Store
from mesh.control.http.errors import translate
from mesh.control.http.status import failure

Render = Callable[[Manifest], dict[str, Any]]


class Watches:
    """Serves watch streams, and ends them all when the server stops."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._readers: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """End every stream; their readers come back to whoever listens next."""
        for reader in self._readers:
            reader.cancel()

    async def serve(self, request: web.Request, match: Match, render: Render, since: int | None) -> web.StreamResponse:
        """Stream the events after `since`; without it, the present objects first, as ADDED. Raises GoneError."""
        subscription = self._store.watch(since, match)
        present = self._present(match) if since is None else []
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(_lines(present, render))
        reader = asyncio.current_task()
        assert reader is not None
        self._readers.add(reader)
        try:
            await _follow(subscription, response, render)
        except ConnectionResetError:
            pass  # The reader left, as readers of a watch do.
        finally:
            self._readers.discard(reader)
        return response

    def _present(self, match: Match) -> list[Event]:
        found = filter(match, self._store.everything())
        return [Event(EventType.ADDED, manifest, self._store.version) for manifest in found]


async def _follow(subscription: Subscription, response: web.StreamResponse, render: Render) -> None:
    """Write events until the reader has fallen behind the history, which it is told."""
    while True:
        try:
            events = await subscription.batch()
        except GoneError as error:
            refused = translate(error)
            assert refused is not None
            await response.write(_line("ERROR", failure(refused)))
            return
        await response.write(_lines(events, render))


def _lines(events: Sequence[Event], render: Render) -> bytes:
    return b"".join(_line(event.type, render(event.manifest)) for event in events)


def _line(kind: str, value: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": value}, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
