"""A request's body on its way: framed for the upstream, and kept while it may still have to be sent."""

from __future__ import annotations

from mesh.proxy.http1.body import LAST_CHUNK, chunk


class RequestBody:
    """Made only for requests that have a body. `kept` are the framed pieces so far; None once they were let go."""

    __slots__ = ("is_chunked", "kept", "size")

    def __init__(self, payload: bytes, done: bool, is_chunked: bool) -> None:
        self.is_chunked = is_chunked
        self.kept: list[bytes] | None = [self.frame(payload, done)] if payload or done else []
        self.size = len(payload)

    def frame(self, payload: bytes, done: bool) -> bytes:
        """The payload as it goes upstream, with the body's end if it is `done`."""
        if not self.is_chunked:
            return payload
        framed = chunk(payload) if payload else b""
        return framed + LAST_CHUNK if done else framed

    def keep(self, framed: bytes, limit: int) -> bool:
        """Keep a piece, if anything is kept at all; false if that is more than `limit` bytes."""
        if self.kept is None:
            return True
        self.kept.append(framed)
        self.size += len(framed)
        return self.size <= limit
