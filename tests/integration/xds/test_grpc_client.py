"""gRPC's own xDS client on our control plane: no sidecar, real servers and a real channel to `xds:///`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from scipy.stats import binomtest
from xdskit.grpc_process import bootstrap, caller
from xdskit.mesh import objects
from xdskit.pki import Authority
from xdskit.serving import served
from xdskit.sidecar import free_block

from mesh.xds.ads.server import DiscoveryServer
from mesh.xds.ads.status import SyncState

WAIT_S = 30.0
TARGET = "reviews.default.svc.cluster.local:9080"
ALPHA = 1e-6  # how often a sound split may fail its test
MESH = """
apiVersion: v1
kind: Service
metadata: {{name: reviews}}
spec: {{selector: {{app: reviews}}, ports: [{{name: grpc, port: 9080}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client-0, labels: {{app: client}}}}
spec: {{serviceAccountName: client, containers: [{{name: app}}]}}
status: {{phase: Running, podIP: {block}.1, conditions: [{{type: Ready, status: "True"}}]}}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: reviews-{number}, labels: {{app: reviews, version: v{number}}}}}
spec: {{serviceAccountName: reviews, containers: [{{name: reviews, ports: [{{containerPort: 9080}}]}}]}}
status: {{phase: Running, podIP: {address}, conditions: [{{type: Ready, status: "True"}}]}}
"""
SUBSETS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
"""
Call = tuple[str, str, float]


@dataclass
class Backend:
    """A gRPC server that answers its name, after `gate` if that is closed, or fails."""

    name: str
    fails: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    async def get(self, _: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.calls += 1
        await self.gate.wait()
        if self.fails:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"{self.name} fails")
        return self.name.encode()


@dataclass
class Shop:
    """A control plane, the backends v1, v2, ..., and a client process."""

    server: DiscoveryServer
    backends: Sequence[Backend]
    caller: asyncio.subprocess.Process
    version: int = 1

    async def calls(self, *, count: int = 1, **order: Any) -> list[Call]:
        """What comes of them."""
        self.begin(count=count, **order)
        return await self.done(count)

    def begin(self, **order: Any) -> None:
        assert self.caller.stdin is not None
        self.caller.stdin.write(json.dumps({"target": TARGET, **order}).encode() + b"\n")

    async def done(self, count: int) -> list[Call]:
        """What comes of the next so many calls to end."""
        assert self.caller.stdout is not None
        found: list[Call] = []
        async with asyncio.timeout(WAIT_S):
            while len(found) < count:
                line = await self.caller.stdout.readline()
                assert line, "the caller ended"
                found.append(tuple(json.loads(line)))
        return found

    async def apply(self, *texts: str) -> None:
        """Change the mesh, and wait until the client has taken it."""
        self.version += 1
        self.server.change(objects(*texts), [], self.version)
        assert (await self.server.wait_synced(self.version, WAIT_S)).state is SyncState.SYNCED

    async def until(self, condition: Callable[[list[Call]], bool], **order: Any) -> list[Call]:
        """Call until it is so: a channel takes what it was sent a moment after it said that it did."""
        async with asyncio.timeout(WAIT_S):
            while not condition(found := await self.calls(**order)):
                continue
        return found


Scenario = Callable[[Shop], Awaitable[None]]


@asynccontextmanager
async def shop(folder: Path, backends: int, *extra: str, tls: bool = False) -> AsyncIterator[Shop]:
    block = free_block()
    authority = Authority()
    authority.write_files(folder / "secrets", "spiffe://cluster.local/ns/default/sa/client")
    running = [Backend(f"v{number + 1}") for number in range(backends)]
    pods = [POD.format(number=number + 1, address=f"{block}.{number + 2}") for number in range(backends)]
    async with AsyncExitStack() as stack:
        for number, backend in enumerate(running):
            await stack.enter_async_context(_backend(backend, f"{block}.{number + 2}", authority if tls else None))
        everything = objects(MESH.format(block=block), *pods, *extra)
        server, port = await stack.enter_async_context(served(authority, everything))
        file = folder / "grpc-bootstrap.json"
        file.write_text(json.dumps(bootstrap(folder, "client-0", f"{block}.1", port)))
        yield Shop(server, running, await stack.enter_async_context(caller(file)))


@asynccontextmanager
async def _backend(backend: Backend, address: str, authority: Authority | None) -> AsyncIterator[None]:
    handler = grpc.unary_unary_rpc_method_handler(backend.get)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Reviews", {"Get": handler}),))
    if authority is None:
        server.add_insecure_port(f"{address}:9080")
    else:
        server.add_secure_port(f"{address}:9080", _server_credentials(authority))
    await server.start()
    try:
        yield
    finally:
        backend.gate.set()
        await server.stop(None)


def _server_credentials(authority: Authority) -> grpc.ServerCredentials:
    from cryptography.x509 import UniformResourceIdentifier

    pair = authority.issue(UniformResourceIdentifier("spiffe://cluster.local/ns/default/sa/reviews"))
    return grpc.ssl_server_credentials([pair], authority.root, require_client_auth=True)


def run(
    folder: Path, backends: int, scenario: Callable[[Shop], Awaitable[None]], *extra: str, tls: bool = False
) -> None:
    async def main() -> None:
        async with shop(folder, backends, *extra, tls=tls) as running:
            await scenario(running)

    asyncio.run(main())


def virtual_service(http: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews}}
spec: {{hosts: [reviews], http: [{http}]}}
"""


def names(calls: Sequence[Call]) -> set[str]:
    return {text for _, text, _ in calls}


def statuses(calls: Sequence[Call]) -> set[str]:
    return {status for status, _, _ in calls}


def test_a_channel_finds_the_endpoints_and_follows_them(tmp_path: Path) -> None:
    async def scenario(shop: Shop) -> None:
        assert names(await shop.until(lambda found: len(names(found)) == 2, count=10)) == {"v1", "v2"}
        assert statuses(await shop.calls(target="reviews:9080")) == {"OK"}, "as short as HTTP clients may say it"
        await shop.apply(SUBSETS, virtual_service("{route: [{destination: {host: reviews, subset: v2}}]}"))
        await shop.until(lambda found: names(found) == {"v2"}, count=10)
        taken = [{own.type for own in status.types if own.acked} for status in shop.server.proxies()]
        assert {"CDS", "EDS", "LDS", "RDS"} in taken
        assert {status.id for status in shop.server.proxies()} == {"client-0.default"}

    run(tmp_path, 2, scenario)


def test_a_split_is_by_weight_and_a_header_chooses(tmp_path: Path) -> None:
    route = virtual_service(
        "{match: [{headers: {x-version: {exact: two}}}], route: [{destination: {host: reviews, subset: v2}}]},"
        "{route: [{destination: {host: reviews, subset: v1}, weight: 80},"
        " {destination: {host: reviews, subset: v2}, weight: 20}]}"
    )

    async def scenario(shop: Shop) -> None:
        calls = await shop.calls(count=1000)
        assert statuses(calls) == {"OK"}
        second = sum(text == "v2" for _, text, _ in calls)
        assert binomtest(second, 1000, 0.2).pvalue > ALPHA
        assert names(await shop.calls(count=20, metadata={"x-version": "two"})) == {"v2"}

    run(tmp_path, 2, scenario, SUBSETS, route)


def test_faults_abort_and_delay(tmp_path: Path) -> None:
    route = virtual_service(
        "{match: [{headers: {x-fault: {exact: abort}}}], fault: {abort: {httpStatus: 503, percentage: {value: 100}}},"
        " route: [{destination: {host: reviews}}]},"
        "{match: [{headers: {x-fault: {exact: delay}}}], fault: {delay: {fixedDelay: 0.3s, percentage: {value: 100}}},"
        " route: [{destination: {host: reviews}}]},"
        "{match: [{headers: {x-fault: {exact: timeout}}}], timeout: 0.2s, route: [{destination: {host: reviews}}]},"
        "{route: [{destination: {host: reviews}}]}"
    )

    async def scenario(shop: Shop) -> None:
        assert statuses(await shop.calls()) == {"OK"}
        (aborted,) = await shop.calls(metadata={"x-fault": "abort"})
        assert aborted[0] == "UNAVAILABLE"
        assert shop.backends[0].calls == 1, "it never left the client"
        (delayed,) = await shop.calls(metadata={"x-fault": "delay"})
        assert delayed[0] == "OK"
        assert delayed[2] >= 0.3
        shop.backends[0].gate.clear()
        (late,) = await shop.calls(metadata={"x-fault": "timeout"})
        assert late[0] == "DEADLINE_EXCEEDED"

    run(tmp_path, 1, scenario, route)


def test_a_backend_that_fails_is_ejected_and_comes_back(tmp_path: Path) -> None:
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 3, interval: 0.2s, baseEjectionTime: 0.5s, maxEjectionPercent: 50}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], http: [{retries: {attempts: 0}, route: [{destination: {host: reviews}}]}]}
"""

    async def scenario(shop: Shop) -> None:
        await shop.until(lambda found: len(names(found)) == 3, count=12)
        shop.backends[0].fails = True
        assert "UNAVAILABLE" in statuses(await shop.calls(count=12))
        await shop.until(lambda found: names(found) == {"v2", "v3"}, count=12)
        shop.backends[0].fails = False
        await shop.until(lambda found: names(found) == {"v1", "v2", "v3"}, count=12)

    run(tmp_path, 3, scenario, rule)


def test_more_calls_at_once_than_the_breaker_lets_through_fail(tmp_path: Path) -> None:
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, trafficPolicy: {connectionPool: {http: {http2MaxRequests: 2}}}}
"""

    async def scenario(shop: Shop) -> None:
        assert statuses(await shop.calls()) == {"OK"}
        shop.backends[0].gate.clear()
        shop.begin(count=5, at_once=True)
        assert statuses(await shop.done(3)) == {"UNAVAILABLE"}
        shop.backends[0].gate.set()
        assert statuses(await shop.done(2)) == {"OK"}

    run(tmp_path, 1, scenario, rule)


def test_retries_hide_a_failing_backend(tmp_path: Path) -> None:
    route = virtual_service("{retries: {attempts: 3, retryOn: unavailable}, route: [{destination: {host: reviews}}]}")

    async def scenario(shop: Shop) -> None:
        await shop.until(lambda found: len(names(found)) == 2, count=10)
        shop.backends[0].fails = True
        calls = await shop.calls(count=20)
        assert names(calls) == {"v2"}
        assert statuses(calls) == {"OK"}

    run(tmp_path, 2, scenario, route)


def test_istio_mutual_is_mutual_tls_with_the_pods_certificate(tmp_path: Path) -> None:
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
"""
    liar = rule.replace("mode: ISTIO_MUTUAL", "mode: ISTIO_MUTUAL, subjectAltNames: ['spiffe://cluster.local/x']")

    async def scenario(shop: Shop) -> None:
        assert statuses(await shop.calls(secure=True)) == {"OK"}
        await shop.apply(liar)
        await shop.until(lambda found: statuses(found) == {"UNAVAILABLE"}, secure=True)

    run(tmp_path, 1, scenario, rule, tls=True)
