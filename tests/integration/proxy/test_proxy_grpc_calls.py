"""A real gRPC client and server with the sidecar between them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from proxy_sidecar import Sidecar, free_port, sidecar
from test_proxy_life import static

PATIENCE_S = 30.0
_MANY = 200


class Service(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Methods without a schema: their messages are bytes. `Wait` answers when `released`."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.released = asyncio.Event()
        self.cancelled = asyncio.Event()

    def service(self, details: Any) -> Any:
        return {
            "/test/Twice": grpc.unary_unary_rpc_method_handler(self.twice),
            "/test/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "/test/Down": grpc.unary_stream_rpc_method_handler(self.down),
            "/test/Echo": grpc.stream_stream_rpc_method_handler(self.echo),
            "/test/Wait": grpc.unary_unary_rpc_method_handler(self.wait),
        }.get(details.method)

    async def twice(self, message: bytes, context: Any) -> bytes:
        return message * 2

    async def fail(self, message: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("x-reason", "test"),))
        await context.abort(grpc.StatusCode.NOT_FOUND, "nothing here")
        return b""

    async def down(self, message: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(_MANY):
            yield message

    async def echo(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for message in messages:
            yield message

    async def wait(self, message: bytes, context: Any) -> bytes:
        self.waiting.set()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return message


@asynccontextmanager
async def between(folder: Path) -> AsyncIterator[tuple[Any, Service, Sidecar]]:
    """A channel to the sidecar, the service behind it, and the sidecar."""
    service = Service()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((service,))
    upstream = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    port = free_port()
    bootstrap = static(port, upstream)
    bootstrap["static_resources"]["clusters"][0]["http2_protocol_options"] = {}
    try:
        async with sidecar(folder, bootstrap) as running:
            await running.until_ready()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(PATIENCE_S):
                yield channel, service, running
    finally:
        service.released.set()
        await server.stop(0)


def test_calls_of_every_kind(tmp_path: Path) -> None:
    async def run() -> None:
        async with between(tmp_path) as (channel, _, running):
            assert await channel.unary_unary("/test/Twice")(b"ab") == b"abab"
            answers = await asyncio.gather(*(channel.unary_unary("/test/Twice")(b"%d" % n) for n in range(_MANY)))
            assert answers == [b"%d" % n * 2 for n in range(_MANY)]
            big = b"x" * 20_000
            assert [message async for message in channel.unary_stream("/test/Down")(big)] == [big] * _MANY

            async def said() -> AsyncIterator[bytes]:
                for n in range(_MANY):
                    yield b"%d" % n * 100

            heard = [message async for message in channel.stream_stream("/test/Echo")(said())]
            assert heard == [b"%d" % n * 100 for n in range(_MANY)]
            await running.until_stat("http.in.downstream_rq_active", 0)
            assert await running.stat("http.in.downstream_cx_http2_total") == 1
            assert await running.stat("cluster.app.upstream_cx_http2_total") == 1
            assert await running.stat("http2.rx_reset") == 0

    asyncio.run(run())


def test_a_status_comes_with_its_words_and_metadata(tmp_path: Path) -> None:
    async def run() -> None:
        async with between(tmp_path) as (channel, _, _running):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/test/Fail")(b"")
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            assert caught.value.details() == "nothing here"
            assert ("x-reason", "test") in [tuple(each) for each in caught.value.trailing_metadata()]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/test/Absent")(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(run())


def test_a_call_that_is_cancelled_is_cancelled_at_the_server(tmp_path: Path) -> None:
    async def run() -> None:
        async with between(tmp_path) as (channel, service, running):
            call = channel.unary_unary("/test/Wait")(b"")
            await service.waiting.wait()
            call.cancel()
            await service.cancelled.wait()
            await running.until_stat("cluster.app.upstream_rq_active", 0)
            assert await channel.unary_unary("/test/Twice")(b"ok") == b"okok"

    asyncio.run(run())


def test_a_call_in_flight_outlives_the_order_to_end(tmp_path: Path) -> None:
    async def run() -> None:
        async with between(tmp_path) as (channel, service, running):
            call = channel.unary_unary("/test/Wait")(b"patient")
            await service.waiting.wait()
            running.process.send_signal(signal.SIGTERM)
            await running.until("it drains", lambda: _said(running, "draining"))
            service.released.set()
            assert await call == b"patient"
            assert await running.process.wait() == 0

    asyncio.run(run())


async def _said(running: Sidecar, words: str) -> bool:
    return words in running.log
