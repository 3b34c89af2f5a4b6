"""Scripted upstreams: real servers that record each request as it arrived and answer as the case says."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from harness.case import Reply, pairs
from harness.wire import BODILESS, Message, MessageCut, read_body, read_head


@dataclass
class Record:
    """One request that reached an upstream, and over which of its connections (counted from 0)."""

    upstream: str
    connection: int
    message: Message
    complete: bool = True
    sni: str = ""


class Upstream:
    """One address of a cluster. `replies` are used in order and the last one repeats; none means 200 with its name."""

    def __init__(self, name: str, records: list[Record]) -> None:
        self.name = name
        self.records = records
        self.checks: list[Record] = []
        self.health = Reply()
        self.held = 0
        self._replies: deque[Reply] = deque()
        self._gate = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections = 0
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self, address: str, port: int, context: ssl.SSLContext | None) -> None:
        if context is not None:
            context.sni_callback = _remember_name
        self._server = await asyncio.start_server(self._serve, address, port, ssl=context)

    def script(self, replies: Iterable[Reply]) -> None:
        """Set what the next requests are answered with, and hold anew what asks to be held."""
        self._replies = deque(replies)
        self._gate = asyncio.Event()

    def release(self) -> None:
        """Let every request that is held be answered."""
        self._gate.set()

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self.release()
        for writer in self._serving.values():
            writer.transport.abort()
        if self._serving:
            await asyncio.wait(self._serving)
        await self._server.wait_closed()

    def _next_reply(self) -> Reply:
        if not self._replies:
            return Reply(body=self.name)
        return self._replies.popleft() if len(self._replies) > 1 else self._replies[0]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self._connections = self._connections, self._connections + 1
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        try:
            if self._replies and self._replies[0].tcp is not None:
                await self._serve_tcp(self._next_reply(), reader, writer, number)
            else:
                while await self._serve_one(reader, writer, number):
                    pass
        except (ConnectionError, MessageCut):
            pass  # the proxy gave up on us, which the records and its own answer tell
        finally:
            del self._serving[task]
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        message = await read_head(reader)
        if message is None:
            return False
        record = Record(self.name, number, message, complete=False, sni=_asked_name(writer))
        is_check = message.first("user-agent") == "envoy/hc"
        (self.checks if is_check else self.records).append(record)
        reply = self.health if is_check else self._next_reply()
        for status in reply.informational:
            writer.write(f"HTTP/1.1 {status} Informational\r\n\r\n".encode())
        if not reply.early:
            await self._read_rest(reader, record)
        await self._pause(reply, reader)
        keep = await self._answer(reply, message, writer)
        if reply.tunnel is not None:
            await self._serve_bytes(reply.tunnel, reply, record, reader, writer)
            return False
        if reply.early and keep:
            await self._read_rest(reader, record)
        return keep

    @staticmethod
    async def _read_rest(reader: asyncio.StreamReader, record: Record) -> None:
        await read_body(reader, record.message, until_close=False)
        record.complete = True

    async def _pause(self, reply: Reply, reader: asyncio.StreamReader) -> None:
        if reply.delay:
            await asyncio.sleep(reply.delay)
        if reply.never:
            await reader.read()
        if reply.hold:
            self.held += 1
            try:
                await self._gate.wait()
            finally:
                self.held -= 1

    async def _answer(self, reply: Reply, message: Message, writer: asyncio.StreamWriter) -> bool:
        if reply.end in ("silent", "reset"):
            return self._end(reply.end, writer)
        raw = reply.raw.encode("latin-1") if reply.raw is not None else render_reply(reply, message)
        writer.write(raw)
        await writer.drain()
        return self._end(reply.end, writer)

    @staticmethod
    def _end(how: str, writer: asyncio.StreamWriter) -> bool:
        """Keep the connection, close it (`close`, or `silent` with no answer at all), or reset it with none."""
        if how == "keep":
            return True
        if how == "reset":
            linger_none = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
        return False

    async def _serve_tcp(
        self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        record = Record(self.name, number, Message("", []), complete=False)
        self.records.append(record)
        await self._serve_bytes(reply.tcp or "", reply, record, reader, writer)

    @staticmethod
    async def _serve_bytes(
        how: str, reply: Reply, record: Record, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if how == "cut-after":
            record.message.body += await reader.read(1 << 16)
        if how in ("greet", "hang-up", "cut", "cut-after"):
            writer.write((reply.body or "").encode())
        if how in ("cut", "cut-after"):
            Upstream._end("reset", writer)
        while how not in ("refuse", "hang-up", "cut", "cut-after") and (piece := await reader.read(1 << 16)):
            record.message.body += piece
            if how == "echo":
                writer.write(piece)
                await writer.drain()
        if how == "after-eof":
            writer.write(b"got " + record.message.body)
        record.complete = True


def _remember_name(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
    connection.asked_name = name or ""  # type: ignore[attr-defined]


def _asked_name(writer: asyncio.StreamWriter) -> str:
    """The server name that the client of a TLS connection asked for."""
    return getattr(writer.get_extra_info("ssl_object"), "asked_name", "")


def render_reply(reply: Reply, message: Message) -> bytes:
    """The bytes of a reply; content-length or chunked is added unless the case frames it itself."""
    headers = pairs(reply.headers)
    names = {name.lower() for name, _ in headers}
    bodiless = message.start.startswith("HEAD ") or reply.status in BODILESS or reply.tunnel is not None
    body = (reply.body or "").encode("latin-1") * reply.times
    if reply.chunks is not None:
        headers.append(("transfer-encoding", "chunked"))
        body = render_chunks(reply.chunks * reply.times, pairs(reply.trailers))
    elif not names & {"content-length", "transfer-encoding"} and not bodiless and reply.end != "close":
        headers.append(("content-length", str(len(body))))
    head = [f"HTTP/1.1 {reply.status} {reply.reason}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(head).encode("latin-1") + (b"" if bodiless else body)


def render_chunks(chunks: list[str], trailers: list[tuple[str, str]]) -> bytes:
    """A chunked body (RFC 9112 section 7.1) of exactly these chunks and trailers."""
    parts = [f"{len(chunk):x}\r\n{chunk}\r\n" for chunk in chunks]
    return "".join([*parts, "0\r\n", *(f"{name}: {value}\r\n" for name, value in trailers), "\r\n"]).encode("latin-1")
