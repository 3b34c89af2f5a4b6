"""The data path on real sockets: updates, and what an update leaves alone; drains."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from live_sidecar import (
    app,
    chain,
    cluster,
    get,
    listener,
    play,
    resources,
    sidecar,
)

from mesh.proxy.observe.stats import Stats
from mesh.proxy.resources import Refused
from mesh.proxy.server import Server


def test_an_update_that_cannot_be_served_changes_nothing() -> None:
    async def scene() -> None:
        async with app() as port:
            good = resources(listener(chain("app")), cluster("app", port))
            async with sidecar(good) as proxy:
                bad = resources(listener(chain("other")), cluster("other", port).replace("STATIC", "ORIGINAL_DST"))
                with pytest.raises(Refused, match='Cluster "other": load_assignment: ORIGINAL_DST clusters'):
                    await proxy.server.apply(bad)
                taken = resources(f"{listener(chain('app'))}, {listener(chain('app'), port, 'second')}")
                with pytest.raises(Refused, match=f'Listener "second": address: cannot bind 127.0.0.1:{port}: Address'):
                    await proxy.server.apply(taken)
                assert proxy.server.runtime.resources is good
                assert await get(proxy.port) == "app"

    play(scene)


def test_an_inline_table_needs_its_clusters() -> None:
    async def scene() -> None:
        async with app() as port:
            checked = listener(chain("app")).replace("validate_clusters: false, ", "")
            async with sidecar(resources(checked, cluster("app", port))) as proxy:
                with pytest.raises(Refused, match="Listener \"l\": route: unknown cluster 'app'"):
                    await proxy.server.apply(resources(listener(chain("app")).replace("false", "true")))
                assert await get(proxy.port) == "app"

    play(scene)


@pytest.mark.parametrize("name", ["l", "renamed"])
def test_an_idle_connection_is_told_before_it_ends_when_its_listener_changes(name: str) -> None:
    """Closed at once it would race with the request that its client is just sending."""

    async def scene() -> None:
        async with sidecar(resources(listener(chain("one")))) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            for is_last in (False, True):
                writer.write(b"GET /own HTTP/1.1\r\nHost: a\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                assert (b"connection: close" in head) == is_last
                assert await reader.readexactly(3) == b"one"
                await proxy.server.apply(resources(listener(chain("two"), name=name)))
            assert await reader.read() == b""
            writer.close()

    play(scene)


def test_a_port_passes_from_one_listener_to_another() -> None:
    async def scene() -> None:
        async with sidecar(resources(listener(chain("one")))) as proxy:
            port = proxy.port
            await proxy.server.apply(resources(listener(chain("one"), port)))
            await proxy.server.apply(resources(listener(chain("two"), port, "renamed")))
            assert await get(port, "/own") == "two"

    play(scene)


def test_an_endpoint_change_keeps_the_hosts_that_stay() -> None:
    async def scene() -> None:
        async with app("one") as first, app("two") as second:
            eds = "{name: app, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}, connect_timeout: 1s}"
            config = resources(listener(chain("app")), eds)

            def assignment(*ports: int) -> dict[str, ClusterLoadAssignment]:
                made = ClusterLoadAssignment(cluster_name="app")
                for port in ports:
                    address = made.endpoints.add().lb_endpoints.add().endpoint.address.socket_address
                    address.address, address.port_value = "127.0.0.1", port
                return {"app": made}

            config = replace(config, endpoints=assignment(first))
            async with sidecar(config) as proxy:
                assert await get(proxy.port) == "one"
                cluster = proxy.server.runtime.clusters["app"]
                (host,) = cluster.hosts
                await proxy.server.apply(replace(config, endpoints=assignment(first, second)))
                assert proxy.server.runtime.clusters["app"] is cluster
                assert cluster.hosts[0] is host
                assert {await get(proxy.port) for _ in range(4)} == {"one", "two"}
                assert host.cx_total == 1
                await proxy.server.apply(replace(config, endpoints=assignment(second)))
                assert {await get(proxy.port) for _ in range(3)} == {"two"}
                await proxy.server.apply(replace(config, endpoints={}))
                assert await get(proxy.port) == "no healthy upstream"

    play(scene)


def test_fields_that_are_not_supported_are_named() -> None:
    async def scene() -> None:
        config = resources(
            listener(chain("app")).replace("stat_prefix: t,", "stat_prefix: t, proxy_status_config: {},")
        )
        with pytest.raises(Refused) as refused:
            async with sidecar(config):
                pass
        path = "filter_chains[0].filters[0].typed_config.proxy_status_config"
        assert str(refused.value) == f'Listener "l": {path}: not supported by this sidecar'

    play(scene)


def test_inbound_listeners_alone_are_drained() -> None:
    async def scene() -> None:
        inbound = listener(chain("in"), name="l").replace("{name: l,", "{name: l, traffic_direction: INBOUND,", 1)
        async with sidecar(resources(f"{inbound}, {listener(chain('out'), name='o')}")) as running:
            ports = {name: each.ports[0][1] for name, each in running.server.listeners.items()}
            assert (await get(ports["l"], "/own"), await get(ports["o"], "/own")) == ("in", "out")
            await running.server.begin_drain(inbound_only=True)
            assert (await get(ports["l"], "/own"), await get(ports["o"], "/own")) == ("", "out")
            assert not running.server.listeners["o"].is_draining

    play(scene)


def test_a_server_that_fails_its_health_checks_says_goodbye_until_it_is_well() -> None:
    async def scene() -> None:
        calm = listener(chain("calm"), name="calm").replace("{name: calm,", "{name: calm, drain_type: MODIFY_ONLY,", 1)
        async with sidecar(resources(f"{listener(chain('own'))}, {calm}")) as running:

            async def says_goodbye(name: str) -> bool:
                reader, writer = await asyncio.open_connection("127.0.0.1", running.server.listeners[name].ports[0][1])
                writer.write(b"GET /own HTTP/1.1\r\nHost: app\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                writer.close()
                return b"\r\nconnection: close\r\n" in head

            assert not await says_goodbye("l")
            running.server.fail(True)
            assert (await says_goodbye("l"), await says_goodbye("calm")) == (True, False)
            running.server.fail(False)
            assert not await says_goodbye("l")

    play(scene)


def test_a_drain_that_goes_on_accepting_lets_each_connection_answer_once() -> None:
    async def scene() -> None:
        async with sidecar(resources(listener(chain("own")))) as running:
            await running.server.begin_drain(keeps_accepting=True)
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(b"GET /own HTTP/1.1\r\nHost: app\r\n\r\n")
            answer = await reader.read()
            writer.close()
            assert b"\r\nconnection: close\r\n" in answer
            assert answer.endswith(b"own")

    play(scene)


def test_workers_cannot_share_one_socket() -> None:
    async def scene() -> None:
        config = resources(listener(chain("c")).replace("{name: l,", "{name: l, enable_reuse_port: false,"))
        with open("/dev/null", "w") as log:  # noqa: ASYNC230 - opening a device does not wait
            alone = Server(asyncio.get_running_loop(), Node(id="n"), Stats(), log)
            await alone.check(config)
            one_of_many = Server(asyncio.get_running_loop(), Node(id="n"), Stats(), log, reuse_port=True)
            with pytest.raises(Refused, match="enable_reuse_port: false is supported with --concurrency 1 alone"):
                await one_of_many.check(config)
            await alone.close(0)
            await one_of_many.close(0)

    play(scene)
