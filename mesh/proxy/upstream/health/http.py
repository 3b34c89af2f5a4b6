"""Health checks by HTTP request, over HTTP/1.1 or HTTP/2."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh.proxy.http1.head import RequestHead, ResponseHead
from mesh.proxy.upstream.health.connection import KeptConnection, checked_name
from mesh.proxy.upstream.health.http1 import Http1Connection
from mesh.proxy.upstream.health.http2 import Http2Connection
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
    is_http2: bool = False


class HttpProbe:
    """One host's checks, over one connection while it may be kept."""

    __slots__ = ("_check", "_host", "_kept", "close")

    def __init__(self, check: HttpCheck, host: Host) -> None:
        self._check = check
        self._host = host
        self._kept = KeptConnection(host, check.port, self._connection)
        self.close = self._kept.close

    async def check(self) -> Outcome:
        connection = await self._kept.open()
        head = await self._ask(connection)
        if not self._check.keeps_connection or not connection.is_open:
            self.close()
        if head.status in self._check.expected:
            return Outcome.DEGRADED if head.get(b"x-envoy-degraded") is not None else Outcome.PASSED
        return Outcome.RETRIABLE if head.status in self._check.retriable else Outcome.REFUSED

    def _connection(self) -> Http1Connection | Http2Connection:
        return Http2Connection.to(self._host) if self._check.is_http2 else Http1Connection()

    async def _ask(self, connection: Http1Connection | Http2Connection) -> ResponseHead:
        check = self._check
        name = checked_name(self._host, check.host)
        request = RequestHead(check.method, check.path, name, list(check.lines), {})
        if isinstance(connection, Http2Connection):
            return (await connection.ask(request)).head
        return await connection.ask(request)
