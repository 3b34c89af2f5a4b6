"""The connection of health checks over HTTP/1.1."""

from __future__ import annotations

from mesh.proxy.http1.body import Body, UntilClose, response_body
from mesh.proxy.http1.errors import MalformedError
from mesh.proxy.http1.head import RequestHead, ResponseHead
from mesh.proxy.http1.parse import MAX_HEAD, parse_response
from mesh.proxy.upstream.health.connection import CheckConnection


class Http1Connection(CheckConnection[ResponseHead]):
    """Sends one request at a time and waits until its response is complete; bodies are read and forgotten."""

    def __init__(self) -> None:
        CheckConnection.__init__(self)
        self._method = b""
        self._buffer = b""
        self._head: ResponseHead | None = None
        self._body: Body | None = None

    async def ask(self, request: RequestHead) -> ResponseHead:
        """The response's head. Raises OSError where none comes."""
        self._method = request.method
        lines = b"\r\n".join((b"host: %b" % request.authority, *request.lines))
        return await self._ask(b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (request.method, request.target, lines))

    def data_received(self, data: bytes) -> None:
        if not self._awaited():
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
        if head is not None:
            self._answered(head)
