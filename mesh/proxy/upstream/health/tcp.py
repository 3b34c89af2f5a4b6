"""Health checks by TCP: that a connection is accepted, or that the host answers with certain bytes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from mesh.proxy.upstream.health.session import Outcome

if TYPE_CHECKING:
    from mesh.proxy.upstream.host import Host

_LONGEST_ANSWER = 64 * 1024


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """`HealthCheck.TcpHealthCheck`: `receive` are pieces that must come in this order, with anything in between."""

    send: bytes = b""
    receive: tuple[bytes, ...] = ()
    keeps_connection: bool = True
    port: int = 0


class TcpProbe:
    """One host's checks, over one connection while it may be kept."""

    __slots__ = ("_check", "_connection", "_host")

    def __init__(self, check: TcpCheck, host: Host) -> None:
        self._check = check
        self._host = host
        self._connection: _Connection | None = None

    async def check(self) -> Outcome:
        connection = self._connection
        if connection is None or not connection.is_open:
            connection = self._connection = _Connection(self._check.receive)
            await self._host.connect_for_check(connection, self._check.port)
        if self._check.receive:
            await connection.ask(self._check.send)
        if not self._check.keeps_connection or not self._check.receive:
            self.close()
        return Outcome.PASSED

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Connection(asyncio.Protocol):
    def __init__(self, wanted: tuple[bytes, ...]) -> None:
        self._wanted = wanted
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[None] | None = None
        self.is_open = True

    async def ask(self, payload: bytes) -> None:
        """Send, and return when what is wanted has come. Raises OSError where it does not."""
        assert self._transport is not None
        self._received = b""
        self._answer = asyncio.get_running_loop().create_future()
        if payload:
            self._transport.write(payload)
        await self._answer

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received = (self._received + data)[-_LONGEST_ANSWER:]
        if self._answer is not None and not self._answer.done() and contains(self._received, self._wanted):
            self._answer.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("connection closed"))


def contains(data: bytes, pieces: tuple[bytes, ...]) -> bool:
    """Whether the pieces occur in `data` one after another."""
    at = 0
    for piece in pieces:
        found = data.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return True
