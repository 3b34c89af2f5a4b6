"""The connection of health checks over HTTP/2, for HTTP and for gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from mesh.proxy.http1.head import Head, RequestHead, ResponseHead
from mesh.proxy.http2 import errors
from mesh.proxy.http2.client import ClientConnection
from mesh.proxy.http2.errors import ConnectionBroke
from mesh.proxy.http2.options import Http2Options
from mesh.proxy.http2.stats import Http2Stats
from mesh.proxy.http2.stream import ClientStream
from mesh.proxy.upstream.health.connection import CheckConnection

if TYPE_CHECKING:
    from mesh.proxy.upstream.host import Host

_LONGEST_BODY = 64 * 1024  # no check looks at more


class Answer(NamedTuple):
    """A response. `trailers` is None where it had none, as where its head was its end."""

    head: ResponseHead
    body: bytes
    trailers: Head | None


class Http2Connection(CheckConnection[Answer]):
    """Sends one request at a time. A connection whose peer said goodbye lets the request end that is under way."""

    def __init__(
        self, options: Http2Options, stats: Http2Stats, scheme: bytes, decides: Callable[[ResponseHead], bool]
    ) -> None:
        """`decides` says of a response's head that nothing after it matters."""
        CheckConnection.__init__(self)
        self._codec: ClientConnection[_Stream] = ClientConnection(self, options, stats)
        self._scheme = scheme
        self._decides = decides

    @classmethod
    def to(cls, host: Host, decides: Callable[[ResponseHead], bool] = lambda head: False) -> Http2Connection:
        """One as the host's cluster wants it, counted where the cluster's other HTTP/2 is."""
        stats = host.cluster.stats
        stats.http2 = stats.http2 or Http2Stats()
        scheme = b"http" if host.tls is None else b"https"
        return cls(host.cluster.config.http.http2, stats.http2, scheme, decides)

    async def ask(self, request: RequestHead, body: bytes = b"") -> Answer:
        """The response. Raises OSError where none comes."""
        stream = _Stream(self)
        self._codec.send_request(stream, request, self._scheme, not body)
        if body:
            self._codec.send_payload(stream, body, True)
        return await self._ask(self._codec.take())

    # asyncio's callbacks

    def connection_lost(self, exc: BaseException | None) -> None:
        self._codec.let_go()
        CheckConnection.connection_lost(self, exc)

    def data_received(self, data: bytes) -> None:
        self._codec.receive(data)
        self._flush()

    # Told by the codec: see `http2.sending.Owner`

    def output_pending(self) -> None:
        asyncio.get_running_loop().call_soon(self._flush)

    def is_drained(self) -> bool:
        return True  # a question at a time: nothing piles up

    def settings_received(self) -> None: ...

    def ping_acknowledged(self, opaque: bytes) -> None: ...

    def goaway_received(self, last: int, code: int) -> None:
        if code == errors.NO_ERROR and self._awaited():
            self.is_open = False  # the answer may still come
        else:
            self._break("GOAWAY")

    def connection_broke(self, error: ConnectionBroke) -> None:
        self._flush()
        self._codec.let_go()
        self._break(error.details)

    # Told by the stream

    def head_received(self, stream: _Stream, head: ResponseHead) -> None:
        if self._decides(head):
            self._codec.reset(stream, errors.CANCEL)
            self._answered(Answer(head, b"", None))

    def answered(self, answer: Answer) -> None:
        self._answered(answer)

    def failed(self, why: str) -> None:
        """The stream ended without a response: the check has failed, the connection has not."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(why))

    def _flush(self) -> None:
        wire = self._codec.take()
        if wire and self._transport is not None and not self._transport.is_closing():
            self._transport.write(wire)


class _Stream(ClientStream):
    """Gathers one response."""

    __slots__ = ("_body", "_connection", "_head")

    def __init__(self, connection: Http2Connection) -> None:
        ClientStream.__init__(self)
        self._connection = connection
        self._head: ResponseHead | None = None
        self._body = b""

    def informational_received(self, head: ResponseHead) -> None:
        """The real one follows."""

    def head_received(self, head: ResponseHead, done: bool) -> None:
        self._head = head
        if done:
            self._over(None)
        else:
            self._connection.head_received(self, head)

    def payload_received(self, payload: bytes, done: bool) -> None:
        if len(self._body) <= _LONGEST_BODY:
            self._body += payload
        if done:
            self._over(None)

    def trailers_received(self, trailers: Head) -> None:
        self._over(trailers)

    def reset_received(self, code: int) -> None:
        self._connection.failed("the stream was reset")

    def refused(self) -> None:
        self._connection.failed("the stream was refused")

    def broke(self, details: str) -> None:
        self._connection.failed(details)

    def write_blocked(self) -> None:
        """A question waits whole."""

    def write_unblocked(self) -> None: ...

    def _over(self, trailers: Head | None) -> None:
        assert self._head is not None  # the codec tells of a head first
        self._connection.answered(Answer(self._head, self._body, trailers))
