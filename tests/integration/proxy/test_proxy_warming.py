"""What is replaced serves until its successor has what it waits for: ours and Envoy, by the same control plane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest
from google.protobuf import json_format
from proxy_certificates import Authority, pair_secret
from proxy_control_plane import ControlPlane, Stream
from proxy_resources import ADS, eds_cluster, endpoints, rds_listener, says
from proxy_sidecar import Sidecar, ads_bootstrap, fetch, free_port, sidecar

from mesh.proxy.operations.references import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Kind
from mesh.proxy.operations.xds_client.kinds import KINDS

pytestmark = pytest.mark.parametrize("engine", ["python", "envoy"])

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]
TLS = {
    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "pair", "sds_config": ADS}]},
}


class App:
    """An HTTP server that answers its name, and health checks (`/healthz`) once `well` is set."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.well = asyncio.Event()
        self.checked = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"GET /healthz"):
                    self.checked.set()
                    await self.well.wait()
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(self._name)}\r\n\r\n{self._name}".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the proxy closed it
        finally:
            writer.close()


@asynccontextmanager
async def apps(*names: str) -> AsyncIterator[list[App]]:
    made = [App(name) for name in names]
    servers = [await asyncio.start_server(app.serve, "127.0.0.1", 0) for app in made]
    for app, server in zip(made, servers, strict=True):
        app.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        for app in made:
            app.well.set()
        for server in servers:
            server.close()


class Conversation:
    """The control plane's end of a stream; `taken` is the version of each kind that the proxy has ACKed last."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._changed = asyncio.Event()
        self.taken: dict[Kind, str] = {}
        self.wanted: dict[Kind, list[str]] = {}

    def say(self, kind: Kind, version: str, *messages: Any) -> None:
        self._stream.say(kind, version, *messages)

    async def listen(self) -> None:
        while True:
            request: DiscoveryRequest = await self._stream.requests.get()
            assert not request.HasField("error_detail"), request
            self.taken[KINDS[request.type_url]] = request.version_info
            self.wanted[KINDS[request.type_url]] = list(request.resource_names)
            self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(15):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_taken(self, kind: Kind, version: str) -> None:
        await self.until(lambda: self.taken.get(kind) == version)

    async def until_wanted(self, kind: Kind, name: str) -> None:
        await self.until(lambda: name in self.wanted.get(kind, []))


@asynccontextmanager
async def conversing(folder: Path, engine: str) -> AsyncIterator[tuple[Conversation, Sidecar]]:
    control = ControlPlane()
    await control.start()
    try:
        async with sidecar(folder, ads_bootstrap(control.port), engine=engine) as running:
            conversation = Conversation(await control.connected())
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(conversation.listen())
                yield conversation, running
                listening.cancel()
    finally:
        await control.stop()


def leads(table: str, cluster: str) -> RouteConfiguration:
    """Routes to `cluster`, and to the cluster `new` below /new."""
    routes = [
        {"match": {"prefix": "/new"}, "route": {"cluster": "new"}},
        {"match": {"prefix": "/"}, "route": {"cluster": cluster}},
    ]
    host = {"name": "all", "domains": ["*"], "routes": routes}
    return json_format.ParseDict({"name": table, "virtual_hosts": [host]}, RouteConfiguration())


def of_service(name: str, service: str) -> Cluster:
    made = eds_cluster(name)
    made.eds_cluster_config.service_name = service
    return made


def checked(name: str, port: int) -> Cluster:
    check = {
        "timeout": "60s", "interval": "60s", "unhealthy_threshold": 1, "healthy_threshold": 1,
        "http_health_check": {"path": "/healthz"},
    }  # fmt: skip
    assignment = json_format.MessageToDict(endpoints(name, port))
    return json_format.ParseDict(
        {"name": name, "type": "STATIC", "load_assignment": assignment, "health_checks": [check]}, Cluster()
    )


async def configured(said: Conversation, running: Sidecar, app: App) -> int:
    """Cluster `a` of service `one`, and a listener that leads there; its port."""
    port = free_port()
    said.say(CLUSTER, "c1", of_service("a", "one"))
    await said.until_wanted(ENDPOINT, "one")
    said.say(ENDPOINT, "e1", endpoints("one", app.port))
    await said.until(lambda: LISTENER in said.taken)
    said.say(LISTENER, "l1", rds_listener("in", port, "table"))
    await said.until_wanted(ROUTE, "table")
    said.say(ROUTE, "r1", leads("table", "a"))
    await running.until_ready()
    await answers(running, port, (200, "one"))
    return port


async def answers(running: Sidecar, port: int, wanted: tuple[int, str], path: str = "/") -> None:
    async def holds() -> bool:
        return (await fetch(f"http://127.0.0.1:{port}{path}")) == wanted

    await running.until(f"{path} answers {wanted}", holds)


def test_a_cluster_serves_until_the_endpoints_of_its_successor_have_come(tmp_path: Path, engine: str) -> None:
    async def scenario() -> None:
        async with apps("one", "two") as (one, two), conversing(tmp_path, engine) as (said, running):
            port = await configured(said, running, one)
            said.say(CLUSTER, "c2", of_service("a", "two"), of_service("new", "three"))
            await said.until_wanted(ENDPOINT, "three")
            await running.until_stat("cluster_manager.warming_clusters", 2)
            assert await fetch(f"http://127.0.0.1:{port}/") == (200, "one")
            assert await fetch(f"http://127.0.0.1:{port}/new") == (503, "")
            said.say(ENDPOINT, "e2", endpoints("two", two.port), endpoints("three", two.port))
            await answers(running, port, (200, "two"))
            await answers(running, port, (200, "two"), "/new")
            assert await running.stat("cluster_manager.warming_clusters") == 0

    asyncio.run(scenario())


def test_clusters_are_acked_when_their_first_checks_are_in_and_the_rest_meanwhile(tmp_path: Path, engine: str) -> None:
    async def scenario() -> None:
        async with apps("one", "two") as (one, two), conversing(tmp_path, engine) as (said, running):
            port = await configured(said, running, one)
            said.say(CLUSTER, "c2", checked("a", two.port))
            await two.checked.wait()
            await running.until_stat("cluster_manager.warming_clusters", 1)
            said.say(LISTENER, "l2", rds_listener("in", port, "other"))
            await said.until_wanted(ROUTE, "other")
            assert await fetch(f"http://127.0.0.1:{port}/") == (200, "one")
            said.say(ROUTE, "r2", leads("other", "a"))
            await said.until_taken(ROUTE, "r2")
            assert said.taken[CLUSTER] == "c1"
            assert await fetch(f"http://127.0.0.1:{port}/") == (200, "one")
            two.well.set()
            await said.until_taken(CLUSTER, "c2")
            await answers(running, port, (200, "two"))

    asyncio.run(scenario())


def test_a_listener_serves_until_the_secret_of_its_successor_has_come(tmp_path: Path, engine: str) -> None:
    async def scenario() -> None:
        async with apps("one") as (one,), conversing(tmp_path, engine) as (said, running):
            port = await configured(said, running, one)
            said.say(LISTENER, "l2", rds_listener("in", port, "table", tls=TLS))
            await said.until_wanted(SECRET, "pair")
            await running.until_stat("listener_manager.total_listeners_warming", 1)
            assert await fetch(f"http://127.0.0.1:{port}/") == (200, "one")
            said.say(SECRET, "s1", pair_secret("pair", Authority().issue("spiffe://cluster.local/ns/default/sa/a")))
            await running.until_stat("listener_manager.total_listeners_warming", 0)
            await answers(running, port, (0, ""))  # it speaks TLS now

    asyncio.run(scenario())


def test_a_listener_serves_until_the_routes_of_its_successor_have_come(tmp_path: Path, engine: str) -> None:
    async def scenario() -> None:
        async with apps("one") as (one,), conversing(tmp_path, engine) as (said, running):
            port = await configured(said, running, one)
            said.say(LISTENER, "l2", rds_listener("in", port, "other"))
            await said.until_wanted(ROUTE, "other")
            await running.until_stat("listener_manager.total_listeners_warming", 1)
            assert await fetch(f"http://127.0.0.1:{port}/") == (200, "one")
            said.say(ROUTE, "r2", says("other", "new"))
            await answers(running, port, (200, "new"))

    asyncio.run(scenario())
