"""Two connections joined: what one says the other hears, with back-pressure, and the end of each is passed on."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import cast

Dial = Callable[[], Awaitable[socket.socket]]

_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # Who is gone without a word, as behind a partition, must not keep its place for ever: 2 minutes.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)


async def splice(accepted: socket.socket, dial: Dial, on_end: Callable[[], None]) -> None:
    """Joins `accepted` to what `dial` connects to; closes it when there is nothing to connect to. `on_end` is called
    once, when neither is open any more."""
    accepted.setblocking(False)
    try:
        with contextlib.suppress(OSError):
            for option in _OPTIONS:
                accepted.setsockopt(*option)
        target = await dial()
    except BaseException as error:
        accepted.close()
        on_end()
        if isinstance(error, OSError):
            return
        raise
    loop = asyncio.get_running_loop()
    near, far = _End(on_end), _End(on_end)
    near.other, far.other = far, near
    # The far end first: the near one may speak at once.
    await loop.create_connection(lambda: far, sock=target)
    await loop.create_connection(lambda: near, sock=accepted)


class _End(asyncio.Protocol):
    """`other` is set before either is connected. What comes before the other one is there is held: a transport of
    Python 3.11.2 reads on although it is told to pause as it is made."""

    __slots__ = ("_ended", "_held", "_is_lost", "_on_end", "_transport", "other")

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.other: _End = self
        self._transport: asyncio.Transport | None = None
        self._ended = False
        self._held: list[bytes] = []
        self._is_lost = False
        self._on_end = on_end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.other._transport is None:
            return
        self._transport.writelines(self.other._held)
        self.other._held.clear()
        if self.other._is_lost:
            self._transport.close()
        elif self.other._ended:
            self._transport.write_eof()

    def data_received(self, data: bytes) -> None:
        if self.other._transport is None:
            self._held.append(data)
        else:
            self.other._transport.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        other = self.other._transport
        if other is not None and not other.is_closing():
            with contextlib.suppress(OSError):  # it is reset already
                other.write_eof()
        return not self.other._ended  # the other direction may go on

    def pause_writing(self) -> None:
        if self.other._transport is not None:
            self.other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other._transport is not None:
            self.other._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        if self.other._is_lost:
            self._on_end()
        other = self.other._transport
        if other is None:
            return
        if error is None:
            other.close()
        else:
            other.abort()
