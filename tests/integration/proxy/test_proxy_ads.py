"""The sidecar against a real ADS server: order of subscriptions, ACK, NACK, warming, and a stream that breaks."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from proxy_control_plane import ControlPlane, Stream
from proxy_resources import eds_cluster, endpoints, rds_listener, says
from proxy_sidecar import Sidecar, ads_bootstrap, children, fetch, free_port, sidecar

from mesh.proxy.operations.references import CLUSTER, ENDPOINT, LISTENER, ROUTE


@asynccontextmanager
async def connected(folder: Path, *, fetch_timeout: str = "15s") -> AsyncIterator[tuple[ControlPlane, Stream, Sidecar]]:
    control = ControlPlane()
    await control.start()
    try:
        async with sidecar(folder, ads_bootstrap(control.port, fetch_timeout=fetch_timeout)) as running:
            yield control, await control.connected(), running
    finally:
        await control.stop()


async def configured(stream: Stream, port: int, text: str = "hello") -> None:
    """Take the sidecar to LIVE: one cluster, one listener on `port` that answers `text`."""
    await stream.heard(CLUSTER)
    stream.say(CLUSTER, "c1", eds_cluster("a"))
    await stream.heard(CLUSTER)
    await stream.heard(ENDPOINT)
    stream.say(ENDPOINT, "e1", endpoints("a", 1))
    await stream.heard(ENDPOINT)
    await stream.heard(LISTENER)
    stream.say(LISTENER, "l1", rds_listener("in", port, "table"))
    await stream.heard(LISTENER)
    await stream.heard(ROUTE)
    stream.say(ROUTE, "r1", says("table", text))
    await stream.heard(ROUTE)


def test_it_subscribes_in_envoys_order_and_is_ready_at_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with connected(tmp_path) as (_, stream, running):
            first = await stream.heard(CLUSTER)
            assert first.node.id.startswith("sidecar~")
            assert (first.version_info, first.response_nonce, list(first.resource_names)) == ("", "", [])
            assert (await running.get("/ready")) == (503, "PRE_INITIALIZING\n")

            nonce = stream.say(CLUSTER, "c1", eds_cluster("a"), eds_cluster("b"))
            ack = await stream.heard(CLUSTER)
            assert (ack.version_info, ack.response_nonce, ack.HasField("node")) == ("c1", nonce, False)
            wanted = await stream.heard(ENDPOINT)
            assert list(wanted.resource_names) == ["a", "b"]
            stream.say(ENDPOINT, "e1", endpoints("a", 1))
            assert (await stream.heard(ENDPOINT)).version_info == "e1"
            assert (await running.get("/ready"))[1] == "PRE_INITIALIZING\n"  # "b" has not come
            stream.say(ENDPOINT, "e2", endpoints("b", 2))
            await stream.heard(ENDPOINT)

            await stream.heard(LISTENER)
            port = free_port()
            stream.say(LISTENER, "l1", rds_listener("in", port, "table"))
            await stream.heard(LISTENER)
            assert list((await stream.heard(ROUTE)).resource_names) == ["table"]
            assert await running.get("/ready") == (503, "INITIALIZING\n")
            assert await fetch(f"http://127.0.0.1:{port}/") == (0, "")  # cold: not bound yet
            stream.say(ROUTE, "r1", says("table", "hello"))
            await stream.heard(ROUTE)
            await running.until_ready()
            assert await fetch(f"http://127.0.0.1:{port}/") == (200, "hello")
            assert await running.stat("control_plane.connected_state") == 1
            assert await running.stat("cluster_manager.cds.update_success") == 1
            assert await running.stat("listener_manager.lds.update_success") == 1
            assert await running.stat("cluster_manager.active_clusters") == 3

    asyncio.run(scenario())


def test_a_refused_response_is_nacked_with_its_reason_and_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with connected(tmp_path) as (_, stream, running):
            port = free_port()
            await configured(stream, port)
            await running.until_ready()

            bad = rds_listener("bad", free_port(), "table")
            bad.filter_chains[0].filters[0].name = "x"
            bad.filter_chains[0].filters[0].typed_config.Pack(Cluster())
            nonce = stream.say(LISTENER, "l2", rds_listener("new", free_port(), "table"), bad)
            nack = await stream.heard(LISTENER)
            assert (nack.version_info, nack.response_nonce, nack.error_detail.code) == ("l1", nonce, 3)
            assert nack.error_detail.message.startswith('Listener "bad": filter_chains[0].filters[0]')
            assert await fetch(f"http://127.0.0.1:{port}/") == (200, "hello")
            assert (await running.get("/listeners"))[1] == f"in::127.0.0.1:{port}\n"
            assert await running.stat("listener_manager.lds.update_rejected") == 1
            dump = {each["@type"].rpartition(".")[2]: each for each in (await running.json("/config_dump"))["configs"]}
            by_name = {each["name"]: each for each in dump["ListenersConfigDump"]["dynamic_listeners"]}
            assert by_name["bad"]["error_state"]["details"] == nack.error_detail.message
            assert by_name["in"]["active_state"]["version_info"] == "l1"

            stream.say(LISTENER, "l3", rds_listener("in", port, "table"))
            assert (await stream.heard(LISTENER)).version_info == "l3"

    asyncio.run(scenario())


def test_a_listener_that_waits_for_its_routes_is_judged_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with connected(tmp_path) as (_, stream, running):
            await configured(stream, free_port())
            await running.until_ready()
            cold: Listener = rds_listener("cold", free_port(), "elsewhere")
            cold.udp_listener_config.SetInParent()
            stream.say(LISTENER, "l2", cold)
            nack = await stream.heard(LISTENER)
            assert 'Listener "cold": udp_listener_config' in nack.error_detail.message

    asyncio.run(scenario())


def test_an_updated_listener_serves_its_old_version_until_its_routes_have_come(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with connected(tmp_path) as (_, stream, running):
            port = free_port()
            await configured(stream, port, "old")
            await running.until_ready()
            stream.say(LISTENER, "l2", rds_listener("in", port, "other"))
            assert (await stream.heard(LISTENER)).version_info == "l2"
            assert list((await stream.heard(ROUTE)).resource_names) == ["other", "table"]
            assert await running.stat("listener_manager.total_listeners_warming") == 1
            assert await fetch(f"http://127.0.0.1:{port}/") == (200, "old")
            stream.say(ROUTE, "r2", says("other", "new"))
            await stream.heard(ROUTE)
            assert await fetch(f"http://127.0.0.1:{port}/") == (200, "new")
            assert list((await stream.heard(ROUTE)).resource_names) == ["other"]

    asyncio.run(scenario())


def test_what_does_not_come_in_time_is_waited_for_no_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with connected(tmp_path) as (_, stream, running):
            await stream.heard(CLUSTER)
            stream.say(CLUSTER, "c1", eds_cluster("a", fetch_timeout="0.2s"))
            await stream.heard(CLUSTER)
            await stream.heard(ENDPOINT)
            await stream.heard(LISTENER)
            port = free_port()
            stream.say(LISTENER, "l1", rds_listener("in", port, "table", fetch_timeout="0.2s"))
            await stream.heard(LISTENER)
            await running.until_ready()
            assert (await fetch(f"http://127.0.0.1:{port}/"))[0] == 404
            assert await running.stat("cluster.a.init_fetch_timeout") == 1
            assert await running.stat("http.in.rds.table.init_fetch_timeout") == 1

    asyncio.run(scenario())


def test_without_a_control_plane_it_becomes_ready_when_its_patience_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with sidecar(tmp_path, ads_bootstrap(free_port(), fetch_timeout="0.3s")) as running:
            await running.until_ready()
            assert await running.stat("cluster_manager.cds.init_fetch_timeout") == 1
            assert await running.stat("control_plane.connected_state") == 0

    asyncio.run(scenario())


def test_losing_the_control_plane_loses_nothing_and_it_comes_back_with_its_versions(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with connected(tmp_path) as (control, stream, running):
            port = free_port()
            await configured(stream, port)
            await running.until_ready()
            await control.stop()
            await running.until_stat("control_plane.connected_state", 0)
            assert await fetch(f"http://127.0.0.1:{port}/") == (200, "hello")
            await control.start()
            again = await control.connected()
            told = [await again.heard(kind) for kind in (CLUSTER, ENDPOINT, LISTENER, ROUTE)]
            assert [request.version_info for request in told] == ["c1", "e1", "l1", "r1"]
            assert [request.response_nonce for request in told] == [""] * 4
            assert [request.HasField("node") for request in told] == [True, False, False, False]
            again.say(ROUTE, "r2", says("table", "back"))
            await again.heard(ROUTE)
            assert await fetch(f"http://127.0.0.1:{port}/") == (200, "back")

    asyncio.run(scenario())


def test_a_stream_that_the_control_plane_ends_is_opened_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with connected(tmp_path) as (control, stream, _):
            await stream.heard(CLUSTER)
            stream.end()
            assert (await (await control.connected()).heard(CLUSTER)).node.id

    asyncio.run(scenario())


def test_removed_resources_are_gone_and_asked_for_no_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with connected(tmp_path) as (_, stream, running):
            port = free_port()
            await configured(stream, port)
            await running.until_ready()
            stream.say(LISTENER, "l2")
            await stream.heard(LISTENER)
            assert list((await stream.heard(ROUTE)).resource_names) == []
            assert await fetch(f"http://127.0.0.1:{port}/") == (0, "")
            stream.say(CLUSTER, "c2")
            await stream.heard(CLUSTER)
            assert list((await stream.heard(ENDPOINT)).resource_names) == []
            assert await running.stat("cluster_manager.cluster_removed") == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("arguments", [(), ("--concurrency", "2")])
def test_every_worker_count_serves_the_same(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    async def scenario() -> None:
        control = ControlPlane()
        await control.start()
        try:
            async with sidecar(tmp_path, ads_bootstrap(control.port), *arguments) as running:
                port = free_port()
                await configured(await control.connected(), port)
                await running.until_ready()
                for _ in range(20):
                    assert await fetch(f"http://127.0.0.1:{port}/") == (200, "hello")
                assert await running.stat("http.in.downstream_rq_2xx") == 20
        finally:
            await control.stop()

    asyncio.run(scenario())


def test_an_update_while_a_worker_is_down_reaches_its_successor(tmp_path: Path) -> None:
    async def scenario() -> None:
        control = ControlPlane()
        await control.start()
        try:
            async with sidecar(tmp_path, ads_bootstrap(control.port), "--concurrency", "2") as running:
                port = free_port()
                stream = await control.connected()
                await configured(stream, port, "old")
                await running.until_ready()
                before = children(running.process.pid)
                for pid in before:
                    os.kill(pid, signal.SIGKILL)
                stream.say(ROUTE, "r2", says("table", "new"))
                assert (await stream.heard(ROUTE)).version_info == "r2"

                async def replaced() -> bool:
                    return len(set(children(running.process.pid)) - set(before)) == 2

                await running.until("two workers again", replaced)

                async def serves() -> bool:
                    return (await fetch(f"http://127.0.0.1:{port}/"))[0] == 200

                await running.until("the listener is back", serves)
                for _ in range(20):
                    assert await fetch(f"http://127.0.0.1:{port}/") == (200, "new")
        finally:
            await control.stop()

    asyncio.run(scenario())
