"""Opens connections to hosts, with the socket options that a cluster wants."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

SocketOption = tuple[int, int, int]  # level, name, value
MakeProtocol = Callable[[], asyncio.Protocol]


class Dial:
    """One address to connect to, as often as wanted."""

    __slots__ = ("_ip", "_loop", "_options", "_port")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ip: str, port: int, options: tuple[SocketOption, ...] = ()
    ) -> None:
        self._loop = loop
        self._ip = ip
        self._port = port
        self._options = options

    async def __call__(self, make: MakeProtocol) -> None:
        """Connect and give the connection to the protocol that `make` returns. Raises OSError."""
        if not self._options:
            await self._loop.create_connection(make, self._ip, self._port)
            return
        made = socket.socket(socket.AF_INET6 if ":" in self._ip else socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            for option in self._options:
                made.setsockopt(*option)
            await self._loop.sock_connect(made, (self._ip, self._port))
            await self._loop.create_connection(make, sock=made)
        except BaseException:
            made.close()
            raise
