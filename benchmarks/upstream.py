"""The fastest upstream that plain Python gives: one prepared answer per request head, no routing, no parsing beyond it.

Run as `python -m benchmarks.upstream ADDRESS PORT`; it prints one line when it listens.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

BODY = b'{"id":1,"padding":"' + b"x" * 179 + b'"}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
HEAD_END = b"\r\n\r\n"


class Upstream(asyncio.Protocol):
    """Answers each head that ends in what arrived; heads cut between two segments are counted by their end."""

    __slots__ = ("_tail", "_transport")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        if self._tail:
            data = self._tail + data
        heads = data.count(HEAD_END)
        self._tail = b"" if data.endswith(HEAD_END) else data[data.rfind(HEAD_END) + 4 :] if heads else data
        if heads:
            self._transport.write(ANSWER if heads == 1 else ANSWER * heads)


async def serve(address: str, port: int) -> None:
    """Serve until cancelled."""
    server = await asyncio.get_running_loop().create_server(Upstream, address, port, backlog=1024)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
