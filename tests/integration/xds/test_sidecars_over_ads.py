"""Two sidecars over our ADS, real Envoys and our own: mutual TLS, and changes without a lost request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from xdskit.mesh import client_and_web, objects
from xdskit.pki import Authority
from xdskit.serving import served
from xdskit.sidecar import free_block, sidecar

from mesh.xds.ads.server import DiscoveryServer
from mesh.xds.ads.status import SyncState

WAIT_S = 30.0
CALLERS, CHANGES = 4, 12
EMPTY_RESPONSE = 120  # bytes: a version, a nonce and the type's URL
ENGINES = pytest.mark.parametrize("engine", ["python", pytest.param("envoy", marks=pytest.mark.envoy)])
PROTOCOLS = pytest.mark.parametrize("api_type", ["GRPC", "DELTA_GRPC"])
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - match: [{uri: {prefix: /teapot}}]
    directResponse: {status: 418}
  - match: [{withoutHeaders: {x-let-me: {exact: "no"}}, uri: {prefix: /let}}]
    directResponse: {status: 202}
  - match: [{uri: {prefix: /lost}}]
    route: [{destination: {host: web, subset: nobody}}]
  - route: [{destination: {host: web, subset: v1}}]
"""


async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every request with 200 and the word `hello`."""
    while await reader.readline():
        while (await reader.readline()) not in (b"\r\n", b""):
            pass
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
    writer.close()


async def get(proxy: str, path: str, *headers: str) -> int:
    """Status of a request for the service `web` through the client's HTTP proxy."""
    head = "\r\n".join((f"GET http://web:9080{path} HTTP/1.1", "host: web:9080", "connection: close", *headers))
    received = await answer(proxy, 15080, f"{head}\r\n\r\n".encode())
    return int(received.split()[1])


def rule_with_subset(name: str) -> str:
    return RULE.replace("name: v1", f"name: {name}").replace("subset: v1", f"subset: {name}")


@asynccontextmanager
async def two_pods(engine: str, folder: Path, api_type: str) -> AsyncIterator[tuple[DiscoveryServer, str]]:
    block = free_block()
    upstream = await asyncio.start_server(app, f"{block}.2", 0)
    app_port = upstream.sockets[0].getsockname()[1]
    authority = Authority()
    run = partial(sidecar, authority, engine, api_type=api_type)
    async with (
        upstream,
        served(authority, objects(client_and_web(block, app_port))) as (server, port),
        run(folder / "client", pod="client-0", address=f"{block}.1", account="client", ads_port=port) as log,
        run(folder / "web", pod="web-0", address=f"{block}.2", account="web", ads_port=port) as other,
    ):
        await connected(server, 2)
        assert "error" not in log.read_text() + other.read_text()
        await synced(server, 1)
        yield server, block


async def synced(server: DiscoveryServer, version: int) -> None:
    result = await server.wait_synced(version, WAIT_S)
    assert result.state is SyncState.SYNCED, result


@PROTOCOLS
@ENGINES
def test_sidecars_speak_mutual_tls_and_follow_changes(engine: str, api_type: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_pods(engine, tmp_path, api_type) as (server, block):
            client = f"{block}.1"
            assert await get(client, "/") == 200
            with pytest.raises(ConnectionError):
                await plaintext(f"{block}.2")
            server.change(objects(RULE), [], 2)
            await synced(server, 2)
            assert await get(client, "/teapot") == 418
            assert await get(client, "/let") == 202
            assert await get(client, "/let", "x-let-me: no") == 200
            assert await get(client, "/lost") == 503
            assert await get(client, "/") == 200

    asyncio.run(scenario())


@PROTOCOLS
@ENGINES
def test_no_request_is_lost_while_rules_come_and_go(engine: str, api_type: str, tmp_path: Path) -> None:
    """Subset and route arrive in one change and leave in one, over and over, under traffic.

    Whichever of the two stands first in the file, and also where one pair takes the place of another.
    """

    async def scenario() -> None:
        async with two_pods(engine, tmp_path, api_type) as (server, block):
            statuses: list[int] = []
            done = asyncio.Event()

            async def traffic() -> None:
                while not done.is_set():
                    statuses.append(await get(f"{block}.1", "/"))

            async with asyncio.TaskGroup() as tasks:
                for _ in range(CALLERS):
                    tasks.create_task(traffic())
                for version in range(2, 2 + CHANGES):
                    rule, route = objects(rule_with_subset(f"s{version}"))
                    there, gone = [([rule, route], []), ([route, rule], []), ([], [route, rule])][version % 3]
                    server.change(there, gone, version)
                    await synced(server, version)
                done.set()
            assert len(statuses) >= CHANGES
            assert set(statuses) == {200}

    asyncio.run(scenario())


@ENGINES
def test_a_restarted_control_plane_sends_only_what_changed_meanwhile(engine: str, tmp_path: Path) -> None:
    """Incremental xDS: a proxy that comes back says what it has."""

    async def scenario() -> None:
        block = free_block()
        before = objects(client_and_web(block, 1))
        client = {"pod": "client-0", "address": f"{block}.1", "account": "client", "api_type": "DELTA_GRPC"}
        authority = Authority()
        async with AsyncExitStack() as stack:
            async with served(authority, before) as (server, port):
                await stack.enter_async_context(sidecar(authority, engine, tmp_path, **client, ads_port=port))
                await connected(server, 1)
                await synced(server, 1)
                first = sizes(server)
            async with served(authority, before, port) as (server, _):
                await connected(server, 1)
                await synced(server, 1)
                assert sizes(server)["EDS"] == sizes(server)["RDS"] == 0
                assert max(sizes(server).values()) < EMPTY_RESPONSE < min(first.values())
            async with served(authority, objects(client_and_web(block, 1), RULE), port) as (
                server,
                _,
            ):
                await connected(server, 1)
                await synced(server, 1)
                assert await get(f"{block}.1", "/teapot") == 418
                assert sizes(server)["LDS"] < EMPTY_RESPONSE

    asyncio.run(scenario())


async def connected(server: DiscoveryServer, proxies: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while len(server.proxies()) < proxies:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.05)


def sizes(server: DiscoveryServer) -> dict[str, float]:
    """Bytes sent so far, by type. Sidecars ask for no secrets."""
    metric = next(metric for metric in server.metrics() if metric.name == "pilot_xds_config_size_bytes")
    return {labels[0][1]: value for labels, value in metric.samples if labels[0][1] != "SDS"}


async def plaintext(address: str) -> None:
    """A request without TLS, straight to the server's sidecar."""
    await answer(address, 9080, b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")


async def answer(address: str, port: int, request: bytes) -> bytes:
    """All that comes back before the connection ends; ConnectionError when nothing does."""
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(request)
        async with asyncio.timeout(WAIT_S):
            received = await reader.read()
    finally:
        writer.close()
    if not received:
        raise ConnectionResetError("closed without an answer")
    return received
