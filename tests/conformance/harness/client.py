"""The client of a case: a connection whose bytes, answers and end are all seen."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.x509.oid import NameOID

from harness.case import Request, Tunnel, pairs
from harness.upstream import render_chunks
from harness.wire import Message, MessageCut, read_response

PATIENCE = 8.0
STILL_OPEN_AFTER = 0.15


@dataclass
class Answer:
    """What the client saw of one request."""

    responses: list[Message] = field(default_factory=list)
    informational: list[int] = field(default_factory=list)
    received: bytes = b""
    cut: bool = False
    connection: str = ""
    local: str = ""
    certificate: str = ""
    reset: int | None = None
    goaway: int | None = None


async def connect(
    address: str, port: int, context: ssl.SSLContext | None, sni: str | None, preface: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, say the preface, and begin TLS when a context is given. Raises OSError as asyncio does."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(address, port)
        if preface:
            writer.write(preface.encode("latin-1"))
        if context is not None:
            await writer.start_tls(context, server_hostname="mesh.test" if sni is None else sni)
    return reader, writer


class Connection:
    """One client connection to an engine's listener."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        address, port = (writer.get_extra_info("sockname") or ("", 0))[:2]
        self.local = f"{address}:{port}"

    @classmethod
    async def open(
        cls, address: str, port: int, context: ssl.SSLContext | None, sni: str | None, preface: str = ""
    ) -> Connection:
        """Connect, say the preface, and begin TLS when a context is given. Raises OSError as asyncio does."""
        return cls(*await connect(address, port, context, sni, preface))

    async def cancel(self, code: int) -> None:
        """HTTP/1 knows no other way than to close."""
        self.close()

    def _certificate(self) -> str:
        """The common name of the engine's certificate; empty without TLS."""
        engine = self._writer.get_extra_info("ssl_object")
        der = engine.getpeercert(binary_form=True) if engine is not None else None
        if der is None:
            return ""
        names = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value)

    async def exchange(self, request: Request) -> Answer:
        """Send a request and read what comes back until its responses are complete or the connection ends."""
        answer = Answer(local=self.local, certificate=self._certificate())
        try:
            async with asyncio.timeout(PATIENCE):
                await self._send(request)
                await self._receive(request, answer)
        except MessageCut as error:
            answer.responses.append(error.message)
            answer.cut = True
        except ssl.SSLError as error:
            answer.connection = "reset"
            answer.received = str(error).encode()
        except ConnectionError:
            answer.connection = "reset"
        return answer

    async def _send(self, request: Request) -> None:
        data = render_request(request)
        if request.at_once:  # the kernel keeps the bytes back until it has the end to send with them
            self._writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        if request.bytewise:
            for at in range(len(data)):
                self._writer.write(data[at : at + 1])
                await asyncio.sleep(0)
        else:
            self._writer.write(data)
        if request.half_close:
            await self._writer.drain()
            self._writer.write_eof()

    async def _receive(self, request: Request, answer: Answer) -> None:
        if request.abandon:
            return
        if request.tcp:
            await self._receive_bytes(request, answer)
            return
        while len(answer.responses) < request.responses:
            response = await read_response(self._reader, request.method)
            if response is None:
                answer.connection = "closed"
                return
            is_tunnel = response.status == 101 or (request.method == "CONNECT" and response.status < 300)
            if request.tunnel is not None and is_tunnel:
                answer.responses.append(response)
                await self._through(request.tunnel, response, answer)
                return
            if response.status >= 200 or response.status == 101:
                answer.responses.append(response)
                continue
            answer.informational.append(response.status)
            if response.status == 100 and request.continued is not None:
                self._writer.write(request.continued.encode("latin-1"))

    async def _through(self, tunnel: Tunnel, response: Message, answer: Answer) -> None:
        """Speak through the tunnel that the response has opened; what comes back is taken as the response's body."""
        self._writer.write(tunnel.send.encode("latin-1") * tunnel.times)
        if tunnel.end == "half":
            self._writer.write_eof()
        while len(response.body) < tunnel.receive or tunnel.end != "close":
            piece = await self._reader.read(1 << 16)
            if not piece:
                answer.connection = "closed"
                return
            response.body += piece

    async def _receive_bytes(self, request: Request, answer: Answer) -> None:
        """Read as many bytes as `responses` says, or to the end when the client has closed its half."""
        while len(answer.received) < request.responses or request.half_close:
            piece = await self._reader.read(1 << 16)
            if not piece:
                answer.connection = "closed"
                return
            answer.received += piece

    async def fate(self, wanted: str) -> str:
        """`kept`, `closed` or `reset`, once what the engine still had to say has been read; an end gets its time."""
        try:
            async with asyncio.timeout(STILL_OPEN_AFTER if wanted == "kept" else PATIENCE):
                while await self._reader.read(1 << 16):
                    pass
        except TimeoutError:
            return "kept"
        except OSError:
            return "reset"
        return "closed"

    def close(self) -> None:
        self._writer.transport.abort()


def render_request(request: Request) -> bytes:
    """The bytes of a request; content-length is added for `body`, transfer-encoding for `chunks`."""
    if request.raw is not None:
        return request.raw.encode("latin-1")
    headers = [] if request.host is None else [("Host", request.host)]
    headers += pairs(request.headers)
    body = (request.body or "").encode("latin-1") * request.times
    if request.chunks is not None:
        headers.append(("Transfer-Encoding", "chunked"))
        body = render_chunks(request.chunks * request.times, pairs(request.trailers))
    elif request.body is not None:
        headers.append(("Content-Length", str(len(body))))
    lines = [f"{request.method} {request.path} HTTP/{request.version}", *(f"{n}: {v}" for n, v in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body
