"""A connection that is made in the very moment in which the time for it runs out: it serves, or it is nowhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from live_sidecar import V3, app, chain, cluster, listener, play, resources, sidecar

from mesh.proxy.downstream.tcp import TcpDownstream
from mesh.proxy.upstream.connection_pool import ConnectionPool

LATE_S = 0.15
HURRIED = "connect_timeout: 0.1s"
TCP = f"""{{filters: [{{name: tcp, typed_config: {{"@type": {V3}.filters.network.tcp_proxy.v3.TcpProxy,
  stat_prefix: t, cluster: app}}}}]}}"""
HTTP = chain("app")


def after(kind: type, name: str, late: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, hold everything up when a method of `kind` has run."""
    real = getattr(kind, name)
    calls = [late]

    def slow(self: Any, *arguments: Any) -> None:
        real(self, *arguments)
        if calls:
            calls.pop()()

    monkeypatch.setattr(kind, name, slow)


async def ask(port: int) -> bool:
    """Whether the app answers."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            return (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        finally:
            writer.transport.abort()


def serve(served: str) -> list[bool]:
    """Which of three clients, one after the other, the app answered."""
    answers: list[bool] = []

    async def scene() -> None:
        async with app() as port:
            hosts = cluster("app", port).replace("connect_timeout: 1s", HURRIED)
            async with sidecar(resources(listener(served), hosts)) as proxy:
                for _ in range(3):
                    answers.append(await ask(proxy.port))
                # What is in nobody's hands would be counted for ever.
                while proxy.counter("cluster.app.upstream_cx_active") != (served is HTTP):  # noqa: ASYNC110 - a counter tells nobody
                    await asyncio.sleep(0.01)

    play(scene)
    return answers


@pytest.mark.parametrize(("served", "kind"), [(HTTP, ConnectionPool), (TCP, TcpDownstream)], ids=["http", "tcp"])
def test_what_has_connected_is_not_cancelled(served: str, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    after(kind, "connected", lambda: time.sleep(LATE_S), monkeypatch)
    assert serve(served) == [True, True, True]


@pytest.mark.parametrize(
    ("served", "kind", "method"), [(HTTP, ConnectionPool, "_connect"), (TCP, TcpDownstream, "connection_made")],
    ids=["http", "tcp"],
)  # fmt: skip
def test_what_connects_too_late_is_given_up(
    served: str, kind: type, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hold_up() -> None:
        asyncio.get_running_loop().call_later(0, time.sleep, LATE_S)

    after(kind, method, hold_up, monkeypatch)
    assert serve(served) == [False, True, True]
