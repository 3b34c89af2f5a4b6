"""The fastest upstreams that plain Python gives: prepared answers, no routing, no parsing beyond where requests end.

Run as `python -m benchmarks.upstream ADDRESS`; it prints one line when it listens on every port.
"""

from __future__ import annotations

import asyncio
import sys
from enum import IntEnum
from typing import cast

import uvloop

HEAD_END = b"\r\n\r\n"


class Port(IntEnum):
    """What the upstream does on each of its ports."""

    SMALL = 9080  # answers with 200 bytes
    LARGE = 9081  # answers with 64 KiB
    HUGE = 9082  # answers with 1 MiB
    SINK = 9083  # reads a body of known length, answers with 200 bytes
    GRPC = 9084  # answers unary calls


def answer(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


SMALL_BODY = b'{"id":1,"padding":"' + b"x" * 179 + b'"}'
ANSWERS = {
    Port.SMALL: answer(SMALL_BODY),
    Port.LARGE: answer(b"x" * 64 * 1024),
    Port.HUGE: answer(b"x" * 1024 * 1024),
}


class Connection(asyncio.Protocol):
    """A client's connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)


class Upstream(Connection):
    """Answers each head that ends in what arrived; heads cut between two segments are counted by their end."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        if self._tail:
            data = self._tail + data
        heads = data.count(HEAD_END)
        self._tail = b"" if data.endswith(HEAD_END) else data[data.rfind(HEAD_END) + 4 :] if heads else data
        if heads:
            self._transport.write(self._answer if heads == 1 else self._answer * heads)


class Sink(Connection):
    """Counts bodies through to their end; one request at a time."""

    def __init__(self) -> None:
        self._head = b""
        self._left: int | None = None  # of the body; None while the head is not complete

    def data_received(self, data: bytes) -> None:
        if self._left is None:
            self._head += data
            end = self._head.find(HEAD_END)
            if end < 0:
                return
            data = self._head[end + 4 :]
            length = self._head[:end].lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            self._left = int(length or 0)
            self._head = b""
        self._left -= len(data)
        if self._left <= 0:
            self._left = None
            self._transport.write(ANSWERS[Port.SMALL])


FRAME = 9  # bytes of a frame's header (RFC 9113 section 4.1)
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GRPC_HEAD = b"\x88\x0f\x10\x10application/grpc"  # :status 200, content-type (RFC 7541 section 6.2.2)
GRPC_BODY = b"\0" + len(SMALL_BODY).to_bytes(4, "big") + SMALL_BODY
GRPC_TRAILERS = b"\x00\x0bgrpc-status\x010"


def frame(kind: int, flags: int, stream: bytes, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream + payload


class GrpcServer(Connection):
    """Answers each stream that its client ends. The windows that it grants outlast any measurement."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._buffer = b""
        grant = b"\0\4" + (2**31 - 1).to_bytes(4, "big")  # SETTINGS_INITIAL_WINDOW_SIZE
        streams = b"\0\3" + (1000).to_bytes(4, "big")  # SETTINGS_MAX_CONCURRENT_STREAMS
        window = frame(8, 0, bytes(4), (2**31 - 1 - 65535).to_bytes(4, "big"))
        self._transport.write(frame(SETTINGS, 0, bytes(4), grant + streams) + window)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        at = len(PREFACE) if data.startswith(PREFACE) else 0
        out = []
        while at + FRAME <= len(data):
            end = at + FRAME + (data[at] << 16 | data[at + 1] << 8 | data[at + 2])
            if end > len(data):
                break
            kind, flags, stream = data[at + 3], data[at + 4], data[at + 5 : at + 9]
            if kind <= HEADERS and flags & END_STREAM:
                out.append(frame(HEADERS, END_HEADERS, stream, GRPC_HEAD))
                out.append(frame(DATA, 0, stream, GRPC_BODY))
                out.append(frame(HEADERS, END_HEADERS | END_STREAM, stream, GRPC_TRAILERS))
            elif kind == SETTINGS and not flags & ACK:
                out.append(frame(SETTINGS, ACK, stream))
            elif kind == PING and not flags & ACK:
                out.append(frame(PING, ACK, stream, data[at + FRAME : end]))
            at = end
        self._buffer = data[at:]
        if out:
            self._transport.write(b"".join(out))


async def serve(address: str) -> None:
    """Serve on all ports until cancelled."""
    loop = asyncio.get_running_loop()
    for port, prepared in ANSWERS.items():
        await loop.create_server(lambda prepared=prepared: Upstream(prepared), address, port, backlog=1024)
    await loop.create_server(Sink, address, Port.SINK, backlog=1024)
    last = await loop.create_server(GrpcServer, address, Port.GRPC, backlog=1024)
    print("listening", flush=True)
    await last.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
