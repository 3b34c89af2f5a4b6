"""What the connections of health checks have in common: one question at a time, again and again while they are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from mesh.proxy.upstream.host import Host

AnswerT = TypeVar("AnswerT")


class CheckConnection(asyncio.Protocol, Generic[AnswerT]):
    """A connection to one host. `is_open` says whether another question may be asked over it."""

    def __init__(self) -> None:
        self.is_open = True
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[AnswerT] | None = None

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._break("connection closed")

    def _awaited(self) -> bool:
        """Whether a question is without its answer."""
        return self._answer is not None and not self._answer.done()

    async def _ask(self, payload: bytes) -> AnswerT:
        """Write, and wait for the answer. Raises OSError where none comes."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        if payload:
            self._transport.write(payload)
        return await self._answer

    def _answered(self, answer: AnswerT) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _break(self, why: str) -> None:
        """Close; who waits for an answer is told that none comes."""
        self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(why))


ConnectionT = TypeVar("ConnectionT", bound="CheckConnection[Any]")


class KeptConnection(Generic[ConnectionT]):
    """A host's connection for checks, made anew when the last one is closed. `port` 0 is the endpoint's."""

    __slots__ = ("_connection", "_host", "_make", "_port")

    def __init__(self, host: Host, port: int, make: Callable[[], ConnectionT]) -> None:
        self._host = host
        self._port = port
        self._make = make
        self._connection: ConnectionT | None = None

    async def open(self) -> ConnectionT:
        """Raises OSError where the host cannot be reached."""
        connection = self._connection
        if connection is None or not connection.is_open:
            connection = self._connection = self._make()
            await self._host.connect_for_check(connection, self._port)
        return connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def checked_name(host: Host, configured: str) -> bytes:
    """The Host or `:authority` of a check: the endpoint's own, else the check's, else the cluster's name."""
    own = host.endpoint.check.hostname if host.endpoint.check is not None else ""
    return (own or configured or host.cluster.name).encode()
