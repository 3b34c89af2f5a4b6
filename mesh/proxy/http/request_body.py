"""A request's body on its way, kept while it may still have to be sent."""

from __future__ import annotations

from collections.abc import Callable

from mesh.proxy.http1.head import Head


class RequestBody:
    """Made only for requests that have a body. `kept` are the pieces so far; None once they were let go.

    `on_enough` is who waits for the whole body, or for more than `enough` bytes of it.
    """

    __slots__ = ("enough", "kept", "on_enough", "size", "trailers")

    def __init__(self, payload: bytes) -> None:
        self.kept: list[bytes] | None = [payload] if payload else []
        self.size = len(payload)
        self.trailers: Head | None = None
        self.enough = 0
        self.on_enough: Callable[[], None] | None = None

    def keep(self, payload: bytes, limit: int) -> bool:
        """Keep a piece, if anything is kept at all; false if that is more than `limit` bytes."""
        if self.kept is None:
            return True
        if payload:
            self.kept.append(payload)
            self.size += len(payload)
        return self.size <= limit

    def came(self, done: bool) -> None:
        """More is there, or all of it: tell who waits, if that is enough."""
        if self.on_enough is not None and (done or self.size > self.enough):
            then, self.on_enough = self.on_enough, None
            then()
