"""A response that is let through slowly: so many bytes a second, in pieces as they become due."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream
    from mesh.proxy.http1.head import Head, ResponseHead

_INTERVAL = 0.05  # seconds between two pieces


class Throttle:
    """Holds the body of one stream's response and sends it on at `rate` bytes a second; `over` is called at its end.

    The stream's own clock (`park`) wakes it, so it ends with the stream. The upstream is stopped while more than a
    second's worth waits here.
    """

    __slots__ = ("_done", "_holds", "_over", "_rate", "_since", "_stream", "_trailers", "_waiting", "is_stopped")

    def __init__(self, stream: Stream, rate: int, over: Callable[[], None]) -> None:
        self._stream = stream
        self._rate = rate
        self._over = over
        self._waiting = b""
        self._done = False
        self._trailers: Head | None = None
        self._since = 0.0
        self._holds = False  # it has stopped the upstream
        self.is_stopped = False  # the client takes no more for now

    def head(self, head: ResponseHead, payload: bytes, done: bool) -> None:
        """The response's head, which is not held, with the first of its body."""
        if done and not payload:
            self._stream.send_head(head, b"", True)
            return
        self._stream.send_head(head, b"", False)
        self._since = time.monotonic()
        self._await_next()
        self.payload(payload, done)

    def payload(self, payload: bytes, done: bool) -> None:
        """More of the body."""
        self._waiting += payload
        self._done = done
        if done:
            self._stream.stop_route_timeout()
        elif len(self._waiting) > self._rate:
            self._holds = True
            self._stream.block_upstream()

    def trailers(self, trailers: Head) -> None:
        """The response ends with these."""
        self._trailers = trailers
        self._done = True
        self._stream.stop_route_timeout()

    def close(self) -> None:
        """The stream is over."""
        self._over()

    def _await_next(self) -> None:
        self._stream.park(_INTERVAL, self._send)

    def _send(self) -> None:
        if self.is_stopped:
            self._await_next()
            return
        now = time.monotonic()
        size = int((now - self._since) * self._rate)
        piece, self._waiting = self._waiting[:size], self._waiting[size:]
        stream = self._stream
        if self._waiting or not self._done:
            if size:
                self._since = now
            if piece:
                stream.send_payload(piece, False)
                if stream.is_over:
                    return
            if self._holds and len(self._waiting) <= self._rate:
                self._holds = False
                stream.unblock_upstream()
            self._await_next()
            return
        if self._trailers is None:
            stream.send_payload(piece, True)
            return
        if piece:
            stream.send_payload(piece, False)
        if not stream.is_over:
            stream.send_trailers(self._trailers)
