"""Health checks by HTTP/1.1 request."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from mesh.proxy.http1.body import Body, UntilClose, response_body
from mesh.proxy.http1.errors import MalformedError
from mesh.proxy.http1.head import ResponseHead
from mesh.proxy.http1.parse import MAX_HEAD, parse_response
from mesh.proxy.upstream.health.session import Outcome

if TYPE_CHECKING:
    from mesh.proxy.upstream.host import Host


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """`HealthCheck.HttpHealthCheck`. `lines` are the request's further headers."""

    path: bytes
    method: bytes = b"GET"
    host: str = ""
    lines: tuple[bytes, ...] = ()
    expected: Container[int] = frozenset((200,))
    retriable: Container[int] = frozenset()
    keeps_connection: bool = True
    port: int = 0


class HttpProbe:
    """One host's checks, over one connection while it may be kept."""

    __slots__ = ("_check", "_connection", "_host")

    def __init__(self, check: HttpCheck, host: Host) -> None:
        self._check = check
        self._host = host
        self._connection: _Connection | None = None

    async def check(self) -> Outcome:
        connection = self._connection
        if connection is None or not connection.is_open:
            connection = self._connection = _Connection(self._check.method)
            await self._host.connect_for_check(connection, self._check.port)
        head = await connection.ask(self._request())
        if not self._check.keeps_connection or not connection.is_open:
            self.close()
        if head.status in self._check.expected:
            return Outcome.DEGRADED if head.get(b"x-envoy-degraded") is not None else Outcome.PASSED
        return Outcome.RETRIABLE if head.status in self._check.retriable else Outcome.REFUSED

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _request(self) -> bytes:
        check, host = self._check, self._host
        own = host.endpoint.check.hostname if host.endpoint.check is not None else ""
        name = own or check.host or host.cluster.name
        lines = (b"host: %b" % name.encode(), *check.lines)
        return b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (check.method, check.path, b"\r\n".join(lines))


class _Connection(asyncio.Protocol):
    """Sends one request at a time and waits until its response is complete; bodies are read and forgotten."""

    def __init__(self, method: bytes) -> None:
        self._method = method
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._head: ResponseHead | None = None
        self._body: Body | None = None
        self._answer: asyncio.Future[ResponseHead] | None = None
        self.is_open = True

    async def ask(self, request: bytes) -> ResponseHead:
        """The response's head. Raises OSError where none comes."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.close()  # nothing was asked
            return
        try:
            if self._body is not None:
                self._take(self._body, data)
            else:
                self._head_received(self._buffer + data)
        except MalformedError as error:
            self._break(error.details)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.is_open = False
        if type(self._body) is UntilClose and exc is None:
            self._complete()
        else:
            self._break("connection closed")

    def _head_received(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > MAX_HEAD:
                raise MalformedError("http1.headers_too_large")
            self._buffer = data
            return
        self._buffer = b""
        head, rest = parse_response(data[:end]), data[end + 4 :]
        if 100 <= head.status < 200 and head.status != 101:
            self._head_received(rest)
            return
        self._head = head
        if head.http_10 or b"close" in head.marked.get(b"connection", b"").lower():
            self.is_open = False
        self._body = response_body(head, self._method)
        if self._body is None:
            self._complete()
        else:
            self._take(self._body, rest)

    def _take(self, body: Body, data: bytes) -> None:
        body.take(data)
        if body.done:
            self._complete()

    def _complete(self) -> None:
        head, self._head, self._body = self._head, None, None
        if head is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result(head)

    def _break(self, why: str) -> None:
        self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(why))
