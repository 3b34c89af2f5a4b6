"""Two connections joined: what one says the other hears, with back-pressure, and the end of each is passed on."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import cast

Dial = Callable[[], Awaitable[socket.socket]]


async def splice(accepted: socket.socket, dial: Dial) -> None:
    """Joins `accepted` to what `dial` connects to; closes it when there is nothing to connect to."""
    accepted.setblocking(False)
    try:
        with contextlib.suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        target = await dial()
    except OSError:
        accepted.close()
        return
    except BaseException:
        accepted.close()
        raise
    loop = asyncio.get_running_loop()
    near, far = _End(), _End()
    near.other, far.other = far, near
    # The far end first: the near one may speak at once.
    await loop.create_connection(lambda: far, sock=target)
    await loop.create_connection(lambda: near, sock=accepted)


class _End(asyncio.Protocol):
    """`other` is set before either is connected."""

    __slots__ = ("_ended", "_transport", "other")

    def __init__(self) -> None:
        self.other: _End = self
        self._transport: asyncio.Transport | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.other._transport is None:
            self._transport.pause_reading()  # nobody to pass it on to yet
        else:
            self.other._transport.resume_reading()
            if self.other._transport.is_closing():
                self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self.other._transport is not None:
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
        other = self.other._transport
        if other is None:
            return
        if error is None:
            other.close()
        else:
            other.abort()
