"""Ports that lead elsewhere, most of them the host's into pods: accepted here, connected from wherever they lead."""

import asyncio
import errno
import socket
import sys
from collections.abc import Callable
from typing import Protocol

from mesh.platforms.netns.splice import Dial, splice
from mesh.platforms.process.container import Spawn

Address = tuple[str, int]
LOOPBACK = "127.0.0.1"

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE_S = 0.2


class Listens(Protocol):
    """Who opens ports, most often those of the host."""

    def listen(self, address: str, port: int) -> socket.socket:
        """A listening socket that does not block; port 0 is any free one. Raises PlatformError."""


class Forwards:
    """A port stays open when what it led to is gone, for whoever is to follow, until it is closed. Where `most`
    connections are open, over all ports, others wait to be accepted."""

    def __init__(self, host: Listens, spawn: Spawn, *, most: int = sys.maxsize) -> None:
        self._host = host
        self._spawn = spawn
        self._open: dict[Address, _Forward] = {}
        self._room = _Room(most)

    def claim(self, address: str, port: int) -> Address:
        """Opens a port, 0 for any free one, unless it is ours already. Raises PlatformError."""
        if (address, port) in self._open:
            return address, port
        forward = _Forward(self._host.listen(address, port), self._spawn, self._room)
        found = forward.address
        self._open[found] = forward
        return found

    def lead(self, address: str, port: int, dial: Dial) -> Address:
        """From now on the port leads to what `dial` connects to. Raises PlatformError."""
        found = self.claim(address, port)
        self._open[found].dial = dial
        return found

    def unlead(self, address: Address, dial: Dial) -> None:
        """The port leads nowhere, unless it leads elsewhere by now."""
        forward = self._open.get(address)
        if forward is not None and forward.dial == dial:
            forward.dial = None

    def close(self, address: Address) -> None:
        forward = self._open.pop(address, None)
        if forward is not None:
            forward.close()

    def close_all(self) -> None:
        for address in list(self._open):
            self.close(address)


class _Room:
    """Of `most` connections. Who found none is called as soon as there is some."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._waiting: list[Callable[[], None]] = []

    def take(self, call_again: Callable[[], None]) -> bool:
        if self._left:
            self._left -= 1
            return True
        self._waiting.append(call_again)
        return False

    def give_back(self) -> None:
        self._left += 1
        waiting, self._waiting = self._waiting, []
        for call_again in waiting:
            call_again()

    def forget(self, call_again: Callable[[], None]) -> None:
        if call_again in self._waiting:
            self._waiting.remove(call_again)


class _Forward:
    def __init__(self, listening: socket.socket, spawn: Spawn, room: _Room) -> None:
        self.address: Address = listening.getsockname()
        self.dial: Dial | None = None
        self._listening = listening
        self._spawn = spawn
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._resume()

    def close(self) -> None:
        self._room.forget(self._resume)
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening.fileno())
        self._listening.close()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening.fileno(), self._accept)

    def _accept(self) -> None:
        """One at a time: the loop comes back as long as there are more."""
        if not self._room.take(self._resume):
            self._loop.remove_reader(self._listening.fileno())
            return
        try:
            accepted, _ = self._listening.accept()
        except OSError as error:  # most often it was gone before it was accepted
            self._room.give_back()
            if error.errno in _EXHAUSTED:
                # It stays in the line, and the loop would come back for it without an end.
                self._loop.remove_reader(self._listening.fileno())
                self._pause = self._loop.call_later(_PAUSE_S, self._resume)
            return
        if self.dial is None:
            accepted.close()
            self._room.give_back()
        else:
            self._spawn(splice(accepted, self.dial, self._room.give_back))


async def connect(address: str, port: int) -> socket.socket:
    """From where this process is."""
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock
