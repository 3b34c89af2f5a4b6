"""One HTTP/2 stream: what the codec keeps of it, and the hooks by which it is told what came.

Whoever uses the codec derives from `Stream`, so that a frame costs one call and no table of its own.
"""

from __future__ import annotations

from collections import deque

from mesh.proxy.http1.head import Head, RequestHead, ResponseHead


class Stream:
    """State of one stream. `number` is 0 until it is opened.

    `waiting` is payload that the peer's windows do not allow yet, `held` counts received payload whose credit is kept
    back while the stream is paused.
    """

    __slots__ = (
        "end_waits", "expected", "has_head", "held", "is_closed", "is_paused", "is_stopped", "local_done", "number",
        "remote_done", "send_window", "trailers_wait", "unacknowledged", "waiting", "waiting_size",
    )  # fmt: skip

    def __init__(self) -> None:
        self.number = 0
        self.send_window = 0
        self.unacknowledged = 0  # received, and not yet given back to the peer as credit
        self.held = 0
        self.expected = -1  # bytes of body that content-length still promises; -1 if it promises nothing
        self.has_head = False  # the peer's (final) head has come
        self.is_paused = False
        self.is_stopped = False  # its producer has been told to wait
        self.local_done = False
        self.remote_done = False
        self.is_closed = False
        self.waiting: deque[memoryview] | None = None
        self.waiting_size = 0
        self.end_waits = False
        self.trailers_wait: list[bytes] | None = None

    def payload_received(self, payload: bytes, done: bool) -> None:
        """More of the body; empty only if `done`."""
        raise NotImplementedError

    def trailers_received(self, trailers: Head) -> None:
        """The end of the message."""
        raise NotImplementedError

    def reset_received(self, code: int) -> None:
        """The peer has reset the stream; nothing more can be said on it."""
        raise NotImplementedError

    def broke(self, details: str) -> None:
        """The peer's message is malformed and we have reset the stream; `details` is Envoy's response code detail."""
        raise NotImplementedError

    def write_blocked(self) -> None:
        """More payload waits than the buffer limit: give no more for now."""
        raise NotImplementedError

    def write_unblocked(self) -> None:
        raise NotImplementedError


class ServerStream(Stream):
    __slots__ = ()

    def head_received(self, head: RequestHead, done: bool) -> None:
        """The request's head."""
        raise NotImplementedError

    def head_refused(self, head: RequestHead, status: int, details: str) -> None:
        """A request that HTTP/2 allows but that cannot be routed: answer it with `status`."""
        raise NotImplementedError


class ClientStream(Stream):
    """`is_to_head` says that the request is a HEAD, whose response has no body whatever its content-length says."""

    __slots__ = ("is_to_head",)

    def __init__(self) -> None:
        Stream.__init__(self)
        self.is_to_head = False

    def informational_received(self, head: ResponseHead) -> None:
        """A 1xx response; the real one follows."""
        raise NotImplementedError

    def head_received(self, head: ResponseHead, done: bool) -> None:
        """The response's head."""
        raise NotImplementedError

    def refused(self) -> None:
        """The peer has not looked at the request (REFUSED_STREAM, or GOAWAY below it): it may be sent elsewhere."""
        raise NotImplementedError
