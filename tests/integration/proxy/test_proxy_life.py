"""How a sidecar starts, drains and ends, and that nothing of it outlives it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from proxy_sidecar import Sidecar, children, fetch, free_port, sidecar

HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def static(port: int, upstream: int | None = None) -> dict[str, Any]:
    """A bootstrap whose listener answers `hello` itself, or asks `upstream`."""
    action: dict[str, Any] = {"direct_response": {"status": 200, "body": {"inline_string": "hello"}}}
    if upstream is not None:
        action = {"route": {"cluster": "app"}}
    manager = {
        "@type": HCM,
        "stat_prefix": "in",
        "route_config": {
            "name": "table",
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **action}]}],
        },
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
    }
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": upstream or 1}}}}
    return {
        "node": {"id": "n", "cluster": "c"},
        "static_resources": {
            "listeners": [
                {
                    "name": "in",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
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


async def ended(running: Sidecar) -> int:
    async with asyncio.timeout(15):
        return await running.process.wait()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_lets_requests_in_flight_end(tmp_path: Path, workers: str) -> None:
    async def scenario() -> None:
        arrived, go_on = asyncio.Event(), asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            arrived.set()
            await go_on.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow")
            await writer.drain()
            writer.close()

        upstream = await asyncio.start_server(slow, "127.0.0.1", 0)
        port = free_port()
        bootstrap = static(port, upstream.sockets[0].getsockname()[1])
        async with upstream, sidecar(tmp_path, bootstrap, "--concurrency", workers) as running:
            await running.until_ready()
            request = asyncio.create_task(fetch(f"http://127.0.0.1:{port}/"))
            async with asyncio.timeout(10):
                await arrived.wait()
            running.process.send_signal(signal.SIGTERM)
            await running.until_ready("DRAINING")

            async def refuses() -> bool:
                return (await fetch(f"http://127.0.0.1:{port}/"))[0] == 0

            await running.until("no new connection is taken", refuses)
            go_on.set()
            assert await request == (200, "slow")
            assert await ended(running) == 0

    asyncio.run(scenario())


def test_connections_made_before_it_drains_are_answered(tmp_path: Path) -> None:
    """The kernel makes them while the sidecar is not running, and it wakes up to them and to the signal at once."""

    async def scenario() -> None:
        port = free_port()
        async with sidecar(tmp_path, static(port)) as running:
            await running.until_ready()
            running.process.send_signal(signal.SIGSTOP)
            clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
            for _, writer in clients:
                writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                await writer.drain()
            running.process.send_signal(signal.SIGTERM)
            running.process.send_signal(signal.SIGCONT)
            async with asyncio.timeout(15):
                answers = [await reader.read() for reader, _ in clients]
            assert [answer for answer in answers if not answer.endswith(b"hello")] == []
            assert await ended(running) == 0
            for _, writer in clients:
                writer.close()

    asyncio.run(scenario())


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        arrived = asyncio.Event()

        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            arrived.set()
            await reader.read()
            writer.close()

        upstream = await asyncio.start_server(never, "127.0.0.1", 0)
        port = free_port()
        bootstrap = static(port, upstream.sockets[0].getsockname()[1])
        async with upstream, sidecar(tmp_path, bootstrap, "--drain-time-s", "600") as running:
            await running.until_ready()
            request = asyncio.create_task(fetch(f"http://127.0.0.1:{port}/"))
            async with asyncio.timeout(10):
                await arrived.wait()
            running.process.send_signal(signal.SIGINT)
            await running.until_ready("DRAINING")
            running.process.send_signal(signal.SIGINT)
            assert await ended(running) == 128 + signal.SIGINT
            await request

    asyncio.run(scenario())


def test_a_killed_worker_is_replaced_and_serves_what_is_in_force(tmp_path: Path) -> None:
    async def scenario() -> None:
        port = free_port()
        async with sidecar(tmp_path, static(port), "--concurrency", "2") as running:
            await running.until_ready()
            before = children(running.process.pid)
            assert len(before) == 2
            os.kill(before[0], signal.SIGKILL)

            async def replaced() -> bool:
                return len(set(children(running.process.pid)) - {before[0]}) == 2

            await running.until("two workers again", replaced)

            async def listening() -> bool:
                return (await running.get("/listeners"))[1] == f"in::127.0.0.1:{port}\n"

            await running.until("both answer", listening)
            for _ in range(20):
                assert await fetch(f"http://127.0.0.1:{port}/") == (200, "hello")

    asyncio.run(scenario())


def test_no_worker_outlives_a_killed_parent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with sidecar(tmp_path, static(free_port()), "--concurrency", "2") as running:
            await running.until_ready()
            workers = children(running.process.pid)
            running.process.kill()
            await ended(running)

            async def gone() -> bool:
                return not any(is_alive(pid) for pid in workers)

            await running.until("the workers are gone", gone)

    asyncio.run(scenario())


def test_a_hang_up_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        port = free_port()
        async with sidecar(tmp_path, static(port)) as running:
            await running.until_ready()
            running.process.send_signal(signal.SIGHUP)
            assert await fetch(f"http://127.0.0.1:{port}/") == (200, "hello")
            running.process.terminate()
            assert await ended(running) == 0

    asyncio.run(scenario())


def test_quitquitquit_ends_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with sidecar(tmp_path, static(free_port())) as running:
            await running.until_ready()
            assert await running.get("/quitquitquit", "POST") == (200, "OK\n")
            assert await ended(running) == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_idle_connections_do_not_hold_up_the_end(tmp_path: Path, workers: str) -> None:
    async def scenario() -> None:
        port = free_port()
        async with sidecar(tmp_path, static(port), "--concurrency", workers, "--drain-time-s", "600") as running:
            await running.until_ready()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            async with asyncio.timeout(10):
                assert await reader.readuntil(b"hello")
            running.process.terminate()
            assert await ended(running) == 0
            writer.close()

    asyncio.run(scenario())


def test_drained_listeners_are_closed_but_the_process_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        port = free_port()
        async with sidecar(tmp_path, static(port)) as running:
            await running.until_ready()
            assert await running.get("/drain_listeners?graceful", "POST") == (200, "OK\n")

            async def refuses() -> bool:
                return (await fetch(f"http://127.0.0.1:{port}/"))[0] == 0

            await running.until("no new connection is taken", refuses)
            assert (await running.get("/ready"))[0] == 200

    asyncio.run(scenario())


def test_pages_add_up_the_workers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
            writer.close()

        upstream = await asyncio.start_server(app, "127.0.0.1", 0)
        to, port = upstream.sockets[0].getsockname()[1], free_port()
        async with upstream, sidecar(tmp_path, static(port, to), "--concurrency", "2") as running:
            await running.until_ready()
            for _ in range(30):
                assert (await fetch(f"http://127.0.0.1:{port}/"))[0] == 200
            assert await running.stat("cluster.app.upstream_rq_total") == 30
            assert f"app::127.0.0.1:{to}::rq_success::30\n" in (await running.get("/clusters"))[1]
            assert (await running.get("/reset_counters", "POST"))[0] == 200
            assert await running.stat("cluster.app.upstream_rq_total") == 0

    asyncio.run(scenario())
