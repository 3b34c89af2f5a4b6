"""Every kind of gRPC call through two sidecars with mutual TLS between them, and from gRPC's own client to one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import pytest
from xdskit.grpc_process import bootstrap, caller
from xdskit.mesh import client_and_web, objects
from xdskit.pki import Authority
from xdskit.serving import served
from xdskit.sidecar import free_block, sidecar

from mesh.xds.ads.status import SyncState

WAIT_S = 30.0
ENGINES = pytest.mark.parametrize("engine", ["python", pytest.param("envoy", marks=pytest.mark.envoy)])
MUTUAL = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
"""


async def say(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    """Echoes, or ends with the status that is asked for."""
    if request == b"refuse":
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as you wish")
    return b"echo " + request


async def count(request: bytes, _: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


async def add(requests: AsyncIterator[bytes], _: grpc.aio.ServicerContext) -> bytes:
    return b"%d" % sum([int(request) async for request in requests])


async def chat(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    """Answers each request at once, with metadata before the first answer and after the last."""
    said = dict(context.invocation_metadata() or ())
    await context.send_initial_metadata(
        (("x-said", said.get("x-say", "")), ("x-data-bin", said.get("x-data-bin", b"")))
    )
    async for request in requests:
        yield b"echo " + request
    context.set_trailing_metadata((("x-end", "chat"),))


class Patience:
    """A call that is never answered, and how it learns that nobody waits for it any more."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def wait(self, _: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.called.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return b""


@asynccontextmanager
async def app(address: str, patience: Patience) -> AsyncIterator[int]:
    server = grpc.aio.server()
    methods = {
        "Add": grpc.stream_unary_rpc_method_handler(add),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Wait": grpc.unary_unary_rpc_method_handler(patience.wait),
        "Say": grpc.unary_unary_rpc_method_handler(say),
        "Count": grpc.unary_stream_rpc_method_handler(count),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Web", methods),))
    port = server.add_insecure_port(f"{address}:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@asynccontextmanager
async def two_pods(
    engine: str, folder: Path, patience: Patience | None = None, *, protocol: str = "grpc", rule: str = MUTUAL
) -> AsyncIterator[tuple[str, Path]]:
    """The block of addresses, and a folder with the bootstrap of a gRPC client as `client-0`."""
    block = free_block()
    authority = Authority()
    run = partial(sidecar, authority, engine, api_type="DELTA_GRPC")
    authority.write_files(folder / "secrets", "spiffe://cluster.local/ns/default/sa/client")
    async with (
        app(f"{block}.2", patience or Patience()) as app_port,
        served(authority, objects(client_and_web(block, app_port, protocol), rule)) as (
            server,
            port,
        ),
        run(folder / "client", pod="client-0", address=f"{block}.1", account="client", ads_port=port),
        run(folder / "web", pod="web-0", address=f"{block}.2", account="web", ads_port=port),
    ):
        async with asyncio.timeout(WAIT_S):
            while len(server.proxies()) < 2:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.05)
        result = await server.wait_synced(1, WAIT_S)
        assert result.state is SyncState.SYNCED, result
        (folder / "grpc-bootstrap.json").write_text(json.dumps(bootstrap(folder, "client-0", f"{block}.1", port)))
        yield block, folder / "grpc-bootstrap.json"


@ENGINES
def test_calls_streams_and_statuses_pass_two_sidecars(engine: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_pods(engine, tmp_path) as (block, _), through(block) as channel:
            assert await channel.unary_unary("/shop.Web/Say")(b"hello", timeout=WAIT_S) == b"echo hello"
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary("/shop.Web/Say")(b"refuse", timeout=WAIT_S)
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert refused.value.details() == "as you wish"
            parts = channel.unary_stream("/shop.Web/Count")(b"100", timeout=WAIT_S)
            assert [part async for part in parts] == [b"%d" % number for number in range(100)]

    asyncio.run(scenario())


@asynccontextmanager
async def through(block: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel of `client-0` to the service, by its sidecar."""
    options = [("grpc.default_authority", "web.default.svc.cluster.local:9080"), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(f"{block}.1:15080", options=options) as channel:
        yield channel


@ENGINES
def test_a_client_streams_before_it_is_answered(engine: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_pods(engine, tmp_path) as (block, _), through(block) as channel:
            call = channel.stream_unary("/shop.Web/Add")(timeout=WAIT_S)
            for number in range(1, 101):
                await call.write(b"%d" % number)
            await call.done_writing()
            assert await call == b"5050"

    asyncio.run(scenario())


@ENGINES
def test_both_sides_stream_in_turns_and_tell_metadata(engine: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_pods(engine, tmp_path) as (block, _), through(block) as channel:
            metadata = (("x-say", "hello"), ("x-data-bin", bytes(range(256))))
            call = channel.stream_stream("/shop.Web/Chat")(metadata=metadata, timeout=WAIT_S)
            for request in (b"one", b"", b"x" * 300_000):
                await call.write(request)
                assert await call.read() == b"echo " + request  # before the next is sent
            initial = dict(await call.initial_metadata())
            assert (initial["x-said"], initial["x-data-bin"]) == ("hello", bytes(range(256)))
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert dict(await call.trailing_metadata())["x-end"] == "chat"
            assert await call.code() is grpc.StatusCode.OK

    asyncio.run(scenario())


@ENGINES
def test_a_call_that_is_given_up_ends_at_the_server(engine: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        patience = Patience()
        async with two_pods(engine, tmp_path, patience) as (block, _), through(block) as channel:
            call = channel.unary_unary("/shop.Web/Wait")(b"", timeout=WAIT_S)
            async with asyncio.timeout(WAIT_S):
                await patience.called.wait()
                call.cancel()
                await patience.cancelled.wait()
            assert await call.code() is grpc.StatusCode.CANCELLED

    asyncio.run(scenario())


@ENGINES
def test_a_deadline_ends_a_call_at_both_ends(engine: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        patience = Patience()
        async with two_pods(engine, tmp_path, patience) as (block, _), through(block) as channel:
            assert await channel.unary_unary("/shop.Web/Say")(b"hello", timeout=WAIT_S) == b"echo hello"
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await channel.unary_unary("/shop.Web/Wait")(b"", timeout=1.0)
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            async with asyncio.timeout(WAIT_S):
                await patience.cancelled.wait()

    asyncio.run(scenario())


@ENGINES
def test_many_calls_at_once(engine: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_pods(engine, tmp_path) as (block, _), through(block) as channel:
            say = channel.unary_unary("/shop.Web/Say")
            answers = await asyncio.gather(*(say(b"%d" % number, timeout=WAIT_S) for number in range(200)))
            assert answers == [b"echo %d" % number for number in range(200)]

    asyncio.run(scenario())


@ENGINES
def test_sidecars_speak_what_the_client_does(engine: str, tmp_path: Path) -> None:
    """`useClientProtocol`, on a port that says only that it is HTTP."""
    rule = MUTUAL.replace(
        "{mode: ISTIO_MUTUAL}", "{mode: ISTIO_MUTUAL}, connectionPool: {http: {useClientProtocol: true}}"
    )

    async def scenario() -> None:
        async with two_pods(engine, tmp_path, protocol="http", rule=rule) as (block, _), through(block) as channel:
            assert await channel.unary_unary("/shop.Web/Say")(b"hello", timeout=WAIT_S) == b"echo hello"

    asyncio.run(scenario())


@ENGINES
def test_grpcs_own_client_speaks_mutual_tls_with_a_sidecar(engine: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_pods(engine, tmp_path) as (_, file), caller(file) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            order = {"target": "web:9080", "method": "/shop.Web/Say", "secure": True}
            process.stdin.write(json.dumps(order).encode() + b"\n")
            async with asyncio.timeout(WAIT_S):
                status, text, _ = json.loads(await process.stdout.readline())
            assert (status, text) == ("OK", "echo ")

    asyncio.run(scenario())
