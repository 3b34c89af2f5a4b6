"""Peers that stall, flood, break off or only sit there: memory stays bounded, and each case ends with the right words.

The sidecar runs as its users run it. What it may hold is a few buffers a connection; a body that it gathered, or a
connection that it forgot, would show in its resident memory by hundreds of MiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from proxy_sidecar import Sidecar, free_port, sidecar

HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
TCP = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
FILE_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
MIB = 1 << 20
PIECE = bytes(MIB)
GIB = 1024
GROWTH_MIB = 24  # buffers of a few connections, and what the allocator keeps
PATIENCE_S = 60.0
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class World:
    """A sidecar between a client and `serve`: `http` and `tcp` are its ports."""

    running: Sidecar
    http: int
    tcp: int
    folder: Path

    def memory_mib(self) -> float:
        """What the sidecar holds resident, in all of its processes."""
        lines = Path(f"/proc/{self.running.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))

    async def log_line(self) -> dict[str, Any]:
        """The access log's only line."""
        path = self.folder / "access.jsonl"

        async def written() -> bool:
            return path.exists() and path.read_text().endswith("\n")

        await self.running.until("the request is logged", written)
        (line,) = path.read_text().splitlines()
        found: dict[str, Any] = json.loads(line)
        return found

    async def open(self, port: int, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port, **options)


def bootstrap(http: int, tcp: int, upstream: int, folder: Path) -> dict[str, Any]:
    log_format = {"status": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%"}
    log = {"@type": FILE_LOG, "path": str(folder / "access.jsonl"), "log_format": {"json_format": log_format}}
    manager = {
        "@type": HCM,
        "stat_prefix": "in",
        "delayed_close_timeout": "0.2s",
        "access_log": [{"name": "file", "typed_config": log}],
        "route_config": {
            "name": "table",
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}}],
                }
            ],
        },
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
    }
    passed = {"@type": TCP, "stat_prefix": "tcp", "cluster": "app"}
    endpoint = {"endpoint": {"address": at(upstream)}}
    return {
        "node": {"id": "n", "cluster": "c"},
        "static_resources": {
            "listeners": [
                {"name": name, "address": at(port), "filter_chains": [{"filters": [{"name": "f", "typed_config": of}]}]}
                for name, port, of in (("http", http, manager), ("tcp", tcp, passed))
            ],
            "clusters": [
                {
                    "name": "app",
                    "type": "STATIC",
                    "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [endpoint]}]},
                }
            ],
        },
    }


def at(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


@asynccontextmanager
async def world(folder: Path, serve: Serve) -> AsyncIterator[World]:
    http, tcp = free_port(), free_port()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the sidecar has hung up, which its own words tell
        finally:
            writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    upstream = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(PATIENCE_S), sidecar(folder, bootstrap(http, tcp, upstream, folder)) as running:
        await running.until_ready()
        yield World(running, http, tcp, folder)


async def head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def read_exactly(reader: asyncio.StreamReader, size: int) -> None:
    while size:
        size -= len(await reader.readexactly(min(size, MIB)))


async def send(writer: asyncio.StreamWriter, mib: int) -> None:
    for _ in range(mib):
        writer.write(PIECE)
        await writer.drain()


async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An upstream that reads a GiB and answers."""
    await head(reader)
    await read_exactly(reader, GIB * MIB)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    await writer.drain()


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An upstream that answers with a GiB."""
    await head(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (GIB * MIB))
    await send(writer, GIB)


def test_a_gib_goes_up_in_little_memory(tmp_path: Path) -> None:
    async def scene() -> None:
        async with world(tmp_path, swallow) as there:
            before = there.memory_mib()
            reader, writer = await there.open(there.http)
            writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (GIB * MIB))
            await send(writer, GIB)
            assert b" 200 " in await head(reader)
            assert there.memory_mib() - before < GROWTH_MIB
            writer.close()
            assert (await there.log_line())["details"] == "via_upstream"

    asyncio.run(scene())


def test_a_gib_comes_down_in_little_memory(tmp_path: Path) -> None:
    async def scene() -> None:
        async with world(tmp_path, pour) as there:
            before = there.memory_mib()
            reader, writer = await there.open(there.http, limit=4 * MIB)
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert b" 200 " in await head(reader)
            await read_exactly(reader, GIB * MIB)
            assert there.memory_mib() - before < GROWTH_MIB
            writer.close()
            assert (await there.log_line())["status"] == 200

    asyncio.run(scene())


def test_a_client_that_does_not_read_stops_the_upstream(tmp_path: Path) -> None:
    sent = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (GIB * MIB))
        for _ in range(GIB):
            writer.write(PIECE)
            await writer.drain()
            sent += 1

    async def scene() -> None:
        async with world(tmp_path, counted) as there:
            before = there.memory_mib()
            reader, writer = await there.open(there.http, limit=1024)
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            await head(reader)
            await there.running.until("the upstream is held up", paused(there))
            assert sent < 64, "MiB beyond what the buffers of five sockets may take"
            assert there.memory_mib() - before < GROWTH_MIB
            writer.transport.abort()
            assert (await there.log_line())["flags"] == "DC"

    asyncio.run(scene())


def paused(there: World) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return await there.running.stat("http.in.downstream_flow_control_paused_reading_total") > 0

    return holds


def test_an_upstream_that_does_not_read_stops_the_client(tmp_path: Path) -> None:
    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        await asyncio.sleep(PATIENCE_S)

    async def scene() -> None:
        async with world(tmp_path, stuck) as there:
            before = there.memory_mib()
            _, writer = await there.open(there.http)
            writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (GIB * MIB))
            sending = asyncio.create_task(send(writer, GIB))
            received = -1

            async def stopped() -> bool:
                nonlocal received
                former, received = received, await there.running.stat("http.in.downstream_cx_rx_bytes_total")
                return former == received > 0

            await there.running.until("no more is read from the client", stopped)
            assert received < 64 * MIB
            assert there.memory_mib() - before < GROWTH_MIB
            sending.cancel()
            # A reset, for an orderly end would wait behind the bytes that nobody takes.
            no_linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
            writer.transport.abort()
            assert (await there.log_line())["flags"] == "DC"

    asyncio.run(scene())


def test_a_head_that_comes_byte_by_byte_is_served(tmp_path: Path) -> None:
    async def scene() -> None:
        async with world(tmp_path, echo) as there:
            reader, writer = await there.open(there.http)
            for byte in b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello":
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0)
            assert b" 200 " in await head(reader)
            assert await reader.readexactly(5) == b"hello"
            writer.close()

    asyncio.run(scene())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + await reader.readexactly(5))
    await writer.drain()


@pytest.mark.parametrize(
    ("answer", "flags", "details"),
    [
        (b"", "UC", "upstream_reset_before_response_started{connection_termination}"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "UPE", "upstream_reset_before_response_started{protocol_error}"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", "UC", "upstream_reset_after_response_started"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf",
            "UC",
            "upstream_reset_after_response_started",
        ),
    ],
)
def test_an_upstream_that_dies_is_said_so(tmp_path: Path, answer: bytes, flags: str, details: str) -> None:
    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(answer)
        await writer.drain()

    async def scene() -> None:
        async with world(tmp_path, dies) as there:
            reader, writer = await there.open(there.http)
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            got = await head(reader)
            cut = b" 200 " in got
            assert cut == details.startswith("upstream_reset_after")
            if cut:
                with contextlib.suppress(ConnectionResetError):  # the reset is the only way to say that more was meant
                    assert b"half" in await reader.read()
            writer.close()
            line = await there.log_line()
            assert line["flags"] == flags or (cut and line["flags"] == "UPE")
            assert line["details"].startswith(details)

    asyncio.run(scene())


def test_half_closed_sockets_pass_through_tcp(tmp_path: Path) -> None:
    """Each side may end its direction and hear the other out."""

    async def after_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = await reader.read()
        writer.write(b"heard %d" % len(heard))
        await writer.drain()

    async def scene() -> None:
        async with world(tmp_path, after_the_end) as there:
            reader, writer = await there.open(there.tcp)
            writer.write(b"x" * 3 * MIB)
            writer.write_eof()
            assert await reader.read() == b"heard %d" % (3 * MIB)
            writer.close()
            await there.running.until_stat("tcp.tcp.downstream_cx_active", 0)

    asyncio.run(scene())


def test_ten_thousand_idle_connections_are_kept_and_let_go(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    many = min(10_000, hard - 1000)

    async def scene() -> None:
        async with world(tmp_path, echo) as there:
            before = there.memory_mib()
            idle = []
            for _ in range(many // 100):  # no more at once than a backlog takes
                idle += await asyncio.gather(*(there.open(there.http, limit=1024) for _ in range(100)))
            await there.running.until_stat("http.in.downstream_cx_active", many)
            a_connection_kib = (there.memory_mib() - before) * 1024 / many
            assert a_connection_kib < 16
            reader, writer = idle[many // 2]
            writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
            assert b" 200 " in await head(reader)
            for _, each in idle:
                each.close()
            await asyncio.gather(*(each.wait_closed() for _, each in idle))
            await there.running.until_stat("http.in.downstream_cx_active", 0)

    try:
        asyncio.run(scene())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
