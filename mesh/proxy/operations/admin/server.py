"""The admin listener: a strict, small HTTP/1.1 server. Pages are few and rare, so one task a request is fine here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

from mesh.proxy import logs
from mesh.proxy.http1.body import content_length
from mesh.proxy.http1.errors import MalformedError
from mesh.proxy.http1.head import RequestHead
from mesh.proxy.http1.parse import MAX_HEAD, parse_request
from mesh.proxy.http1.reply import STATUS_LINES, Clock
from mesh.proxy.operations.admin.page import BadQuery, Page, Reply, Request, Sidecar

_LOG = logs.logger("admin")
_LARGEST_BODY = 64 * 1024
_IDLE_S = 60.0
_CONNECTIONS = 256

Pages = Mapping[str, Page]


class AdminServer:
    """Serves `pages` on one address until closed."""

    def __init__(self, sidecar: Sidecar, pages: Pages) -> None:
        self._sidecar = sidecar
        self._pages = pages
        self._clock = Clock()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self, address: str, port: int) -> tuple[str, int]:
        """Listen; the address it got (port 0 resolved). Raises OSError."""
        self._server = await asyncio.start_server(self._serve, address, port, limit=MAX_HEAD)
        host, bound = self._server.sockets[0].getsockname()[:2]
        return host, bound

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._connections):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= _CONNECTIONS:
            writer.close()
            return
        self._connections.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client left, or said nothing for too long
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its reply; False when the connection is to end."""
        try:
            async with asyncio.timeout(_IDLE_S):
                head = parse_request((await reader.readuntil(b"\r\n\r\n"))[:-4])
                await reader.readexactly(_body_length(head))
        except asyncio.LimitOverrunError:
            await self._send(writer, Reply("Request Header Fields Too Large", 431), keep=False, with_body=True)
            return False
        except MalformedError as error:
            await self._send(writer, Reply(HTTPStatus(error.status).phrase, error.status), keep=False, with_body=True)
            return False
        keep = b"close" not in head.marked.get(b"connection", b"").lower()
        reply = await self._answer(head)
        await self._send(writer, reply, keep=keep, with_body=head.method != b"HEAD")
        return keep

    async def _answer(self, head: RequestHead) -> Reply:
        path, _, query = head.target.decode("latin-1").partition("?")
        request = Request(head.method.decode(), unquote(path), dict(parse_qsl(query, keep_blank_values=True)))
        page = self._pages.get(request.path)
        if page is None:
            return Reply("invalid path. " + help_text(self._pages), 404)
        if page.changes and request.method != "POST":
            return Reply(f"Method {request.method} not allowed, POST required.", 405)
        try:
            return await page.answer(self._sidecar, request)
        except BadQuery as error:
            return Reply(str(error), 400)
        except Exception:
            _LOG.exception("the page %s failed", request.path)
            return Reply("internal error; the log says more\n", 500)

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply, *, keep: bool, with_body: bool) -> None:
        body = reply.body.encode()
        head = (
            f"content-type: {reply.content_type}\r\ncache-control: no-cache, max-age=0\r\n"
            f"x-content-type-options: nosniff\r\ncontent-length: {len(body)}\r\nserver: envoy\r\n"
        ).encode()
        date = self._clock.date(asyncio.get_running_loop().time())
        last = b"\r\n" if keep else b"connection: close\r\n\r\n"
        writer.write(
            STATUS_LINES[reply.status] + head + b"date: " + date + b"\r\n" + last + (body if with_body else b"")
        )
        async with asyncio.timeout(_IDLE_S):
            await writer.drain()


def help_text(pages: Pages) -> str:
    """`/help`, in Envoy's form."""
    lines = ["admin commands are:"]
    for path in sorted(pages):
        page = pages[path]
        lines.append(f"  {path}{' (POST)' if page.changes else ''}: {page.about}")
        lines += [f"      {name}: {about}" for name, about in page.parameters.items()]
    return "\n".join(lines) + "\n"


def _body_length(head: RequestHead) -> int:
    if b"transfer-encoding" in head.marked:
        raise MalformedError("http1.codec_error")
    length = content_length(head.marked.get(b"content-length", b"0"))
    if length > _LARGEST_BODY:
        raise MalformedError("http1.codec_error")
    return length
