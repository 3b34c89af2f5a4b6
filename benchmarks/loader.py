"""A closed-loop HTTP/1.1 load generator for machines without wrk.

Run as `python -m benchmarks.loader URL CONNECTIONS SECONDS`; it reports in wrk's words.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import uvloop


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it has been answered; answers must have a content-length."""

    def __init__(self, request: bytes, latencies: list[float], failures: list[bytes]) -> None:
        self._request = request
        self._latencies = latencies
        self._failures = failures
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = self._buffer[:end].lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        if len(self._buffer) < end + 4 + int(length):
            return
        self._latencies.append(time.perf_counter() - self._asked)
        if self._buffer[9:10] not in b"23":
            self._failures.append(self._buffer[9:12])
        self._buffer = b""
        self._ask()


async def load(url: str, connections: int, seconds: float) -> str:
    """Load for some seconds and report in wrk's words."""
    parts = urlsplit(url)
    request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    latencies: list[float] = []
    failures: list[bytes] = []
    loop = asyncio.get_running_loop()
    address, port = parts.hostname or "127.0.0.1", parts.port or 80
    begun = time.perf_counter()
    transports = [
        (await loop.create_connection(lambda: Client(request, latencies, failures), address, port))[0]
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    took = time.perf_counter() - begun
    for transport in transports:
        transport.abort()
    latencies.sort()
    lines = [f"{which}% {latencies[len(latencies) * which // 100] * 1e3:.3f}ms" for which in (50, 99)]
    lines += [f"{len(latencies)} requests in {took:.3f}s,", f"Non-2xx or 3xx responses: {len(failures)}"]
    return "\n".join(lines)


if __name__ == "__main__":
    print(uvloop.run(load(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
