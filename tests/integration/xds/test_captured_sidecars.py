"""Requests that know nothing of a mesh, through two sidecars to which the kernel hands them: Envoys and our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from xdskit.captured_pods import HOST, Pod, app, missing, pods
from xdskit.mesh import objects
from xdskit.pki import Authority
from xdskit.serving import served
from xdskit.sidecar import Captured, sidecar

from mesh.xds.ads.status import SyncState

WAIT_S = 30.0
ENGINES = pytest.mark.parametrize("engine", ["python", pytest.param("envoy", marks=pytest.mark.envoy)])
MESH = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.5
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 9080}
  - {name: tcp-echo, port: 7000}
  - {name: any, port: 7777, targetPort: 9080}
  - {name: http-own, port: 9080}
---
apiVersion: v1
kind: Pod
metadata: {name: client-0, labels: {app: client}}
spec: {serviceAccountName: client, containers: [{name: istio-proxy}]}
status: {phase: Running, podIP: 10.77.0.2, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, labels: {security.istio.io/tlsMode: istio, app: web}}
spec: {serviceAccountName: web, containers: [{name: web, ports: [{containerPort: 9080}]}, {name: istio-proxy}]}
status: {phase: Running, podIP: 10.77.0.3, conditions: [{type: Ready, status: "True"}]}
"""
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
"""

REGISTRY_ONLY = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"}
"""


@pytest.fixture(scope="module")
def namespaces() -> Iterator[tuple[Pod, ...]]:
    if lack := missing():
        pytest.skip(lack)
    with pods(2) as made, app(made[1]):
        yield made


@asynccontextmanager
async def running(engine: str, folder: Path, both: tuple[Pod, ...], *more: str) -> AsyncIterator[None]:
    """Both sidecars, once they have taken everything."""
    authority = Authority()

    def beside(pod: Pod, name: str, port: int) -> AbstractAsyncContextManager[Path]:
        own = {"pod": f"{name}-0", "address": pod.address, "account": name, "ads_port": port}
        return sidecar(authority, engine, folder / name, **own, captured=Captured(pod.namespace, HOST))

    async with (
        served(authority, objects(MESH, *more), host=HOST) as (server, port),
        beside(both[0], "client", port) as log,
        beside(both[1], "web", port) as other,
    ):
        async with asyncio.timeout(WAIT_S):
            while len(server.proxies()) < 2:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.01)
        result = await server.wait_synced(1, WAIT_S)
        assert result.state is SyncState.SYNCED, (result, log.read_text(), other.read_text())
        yield


@ENGINES
def test_calls_pass_both_sidecars(engine: str, tmp_path: Path, namespaces: tuple[Pod, ...]) -> None:
    """HTTP by name, HTTP on a port that declares nothing, TCP where the server speaks first; all over mutual TLS."""
    client, web = namespaces

    async def scenario() -> None:
        async with running(engine, tmp_path, namespaces, STRICT):
            ask = partial(asyncio.to_thread, client.get)
            assert await ask("10.96.0.5", 80, "web") == "200 127.0.0.6 web"
            assert await ask("10.96.0.5", 80, "10.96.0.5") == "200 127.0.0.6 10.96.0.5"
            assert await ask("10.96.0.5", 7777, "whatever") == "200 127.0.0.6 whatever"
            assert await asyncio.to_thread(client.say, "10.96.0.5", 7000, "ping") == "hello 127.0.0.6\nping"
            # An app may call its own service, and is called like anybody else.
            assert await asyncio.to_thread(web.get, "10.96.0.5", 80, "web") == "200 127.0.0.6 web"
            # What the mesh does not know is passed on as it is, and nobody comes in without the mesh's certificate.
            assert await asyncio.to_thread(client.say, "10.77.0.3", 7001, "ping") == ""

    asyncio.run(scenario())


@ENGINES
def test_what_the_mesh_does_not_know_goes_where_it_was_meant_to(
    engine: str, tmp_path: Path, namespaces: tuple[Pod, ...]
) -> None:
    client, _ = namespaces

    async def scenario() -> None:
        async with running(engine, tmp_path, namespaces):
            # A port of the pod that no service and no container names, by the pod's address.
            assert await asyncio.to_thread(client.say, "10.77.0.3", 7001, "ping") == "hello 127.0.0.6\nping"
            # A host that nobody knows on a port that services have.
            assert await asyncio.to_thread(client.get, "10.77.0.3", 9080, "nobody") == "200 127.0.0.6 nobody"

    asyncio.run(scenario())


@ENGINES
def test_under_registry_only_nothing_else_leaves(engine: str, tmp_path: Path, namespaces: tuple[Pod, ...]) -> None:
    client, _ = namespaces

    async def scenario() -> None:
        async with running(engine, tmp_path, namespaces, REGISTRY_ONLY):
            assert await asyncio.to_thread(client.get, "10.96.0.5", 80, "web") == "200 127.0.0.6 web"
            assert await asyncio.to_thread(client.get, "10.77.0.3", 9080, "nobody") == "502 "
            assert await asyncio.to_thread(client.say, "10.77.0.3", 7001, "ping") == ""

    asyncio.run(scenario())
