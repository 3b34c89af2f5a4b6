"""Health checks by TCP: that a connection is accepted, or that the host answers with certain bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh.proxy.upstream.health.connection import CheckConnection, KeptConnection
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

    __slots__ = ("_check", "_kept", "close")

    def __init__(self, check: TcpCheck, host: Host) -> None:
        self._check = check
        self._kept = KeptConnection(host, check.port, lambda: _Connection(check.receive))
        self.close = self._kept.close

    async def check(self) -> Outcome:
        connection = await self._kept.open()
        if self._check.receive:
            await connection.ask(self._check.send)
        if not self._check.keeps_connection or not self._check.receive:
            self.close()
        return Outcome.PASSED


class _Connection(CheckConnection[None]):
    def __init__(self, wanted: tuple[bytes, ...]) -> None:
        CheckConnection.__init__(self)
        self._wanted = wanted
        self._received = b""

    async def ask(self, payload: bytes) -> None:
        """Send, and return when what is wanted has come. Raises OSError where it does not."""
        self._received = b""
        await self._ask(payload)

    def data_received(self, data: bytes) -> None:
        self._received = (self._received + data)[-_LONGEST_ANSWER:]
        if contains(self._received, self._wanted):
            self._answered(None)


def contains(data: bytes, pieces: tuple[bytes, ...]) -> bool:
    """Whether the pieces occur in `data` one after another."""
    at = 0
    for piece in pieces:
        found = data.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return True
