"""Opens connections to hosts, from the address and with the socket options that a cluster wants."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable

SocketOption = tuple[int, int, int]  # level, name, value
_BIND_ADDRESS_NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT of Linux, which Python has no name for
MakeProtocol = Callable[[], asyncio.Protocol]


class Dial:
    """One port to connect to, as often as wanted: at the first of some addresses that takes the connection."""

    __slots__ = ("_ips", "_loop", "_options", "_port", "_source")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ips: tuple[str, ...],
        port: int,
        options: tuple[SocketOption, ...] = (),
        source: tuple[str, int] | None = None,
    ) -> None:
        self._loop = loop
        self._ips = ips
        self._port = port
        self._options = options
        self._source = source  # the address and port to connect from

    async def __call__(self, make: MakeProtocol) -> None:
        """Connect and give the connection to the protocol that `make` returns. Raises OSError."""
        *others, last = self._ips
        for ip in others:
            try:
                await self._connect(make, ip)
            except OSError:
                continue
            return
        await self._connect(make, last)

    async def _connect(self, make: MakeProtocol, ip: str) -> None:
        if not self._options and self._source is None:
            await self._loop.create_connection(make, ip, self._port)
            return
        made = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            for option in self._options:
                made.setsockopt(*option)
            if self._source is not None:
                _bind(made, self._source)
            await self._loop.sock_connect(made, (ip, self._port))
            await self._loop.create_connection(make, sock=made)
        except BaseException:
            made.close()
            raise


def _bind(made: socket.socket, source: tuple[str, int]) -> None:
    """Port 0 is left open until the connection is made, so that one port serves for several destinations."""
    if source[1] == 0 and made.family == socket.AF_INET and sys.platform == "linux":
        made.setsockopt(socket.SOL_IP, _BIND_ADDRESS_NO_PORT, 1)
    made.bind(source)
