"""Updates while clients are at work: whatever is swapped, no request is lost."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count, cycle
from pathlib import Path

from live_sidecar import (
    Authority,
    app,
    chain,
    client_context,
    cluster,
    context,
    listener,
    play,
    resources,
    secrets,
    sidecar,
)

from mesh.proxy.resources import Resources

CLIENTS = 6


class Load:
    """Clients that keep their connections and ask again and again; `lost` is what they got no answer to."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._tls = tls
        self.answered = 0
        self.bodies: dict[str, int] = {}
        self.certificates: set[bytes | None] = set()
        self.lost: list[str] = []
        self._is_over = False
        self._progress = asyncio.Event()

    async def run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(CLIENTS)))

    def stop(self) -> None:
        self._is_over = True

    async def more(self, requests: int) -> None:
        """Until so many more have been answered, or one was lost."""
        wanted = self.answered + requests
        async with asyncio.timeout(20):
            while self.answered < wanted and not self.lost:
                self._progress.clear()
                await self._progress.wait()

    async def _client(self) -> None:
        while not self._is_over:
            name = "app" if self._tls else None
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._tls, server_hostname=name)
            engine = writer.get_extra_info("ssl_object")
            self.certificates.add(engine.getpeercert(binary_form=True) if engine is not None else None)
            try:
                while await self._ask(reader, writer) and not self._is_over:
                    pass
            except (OSError, asyncio.IncompleteReadError) as error:
                self.lost.append(repr(error))
                self._is_over = True
                self._progress.set()
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection may be used again."""
        writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = (await reader.readexactly(size)).decode()
        if not head.startswith(b"http/1.1 200"):
            self.lost.append(head.decode() + body)
        self.answered += 1
        self._progress.set()
        self.bodies[body] = self.bodies.get(body, 0) + 1
        return b"connection: close" not in head


@asynccontextmanager
async def load(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Load]:
    made = Load(port, tls)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        made.stop()
        await task


def thousand(port: int, timeout: int) -> str:
    return ", ".join(cluster(f"c{index}", port).replace("1s", f"{timeout}s") for index in range(1000))


def versions(port: int, one: int, two: int) -> Iterator[Resources]:
    """Configurations that answer alike but differ in every part, one after the other. The clusters that old chains lead
    to stay: a connection that is drained has its next request served by the chain that it came in by.
    """
    apps = f"{cluster('one', one)}, {cluster('two', two)}"
    for number in count():
        names = ("l", f"l{number}")
        yield resources(listener(chain("one"), port, names[0]), apps)
        yield resources(listener(chain("two"), port, names[0]), apps)
        yield resources(listener(chain("two"), port, names[1]), apps)  # the same port in other hands
        yield resources(listener(chain("two"), port, names[1]), f"{cluster('one', one)}, {cluster('two', one)}")
        yield resources(listener(chain("one", match="transport_protocol: raw_buffer"), port, names[1]), apps)
        yield resources(listener(chain("one"), port, names[1]), f"{apps}, {thousand(one, number + 1)}")


def test_no_request_is_lost_while_all_is_swapped() -> None:
    async def scene() -> None:
        async with app("one") as one, app("two") as two:
            first = resources(listener(chain("one")), cluster("one", one))
            async with sidecar(first) as running, load(running.port) as clients:
                await clients.more(20)
                for _, config in zip(range(18), versions(running.port, one, two), strict=False):
                    await running.server.apply(config)
                    await running.server.settled()
                    await clients.more(30)
            assert clients.lost == []
            assert set(clients.bodies) == {"one", "two"}

    play(scene)


def test_no_request_is_lost_while_secrets_are_rotated(tmp_path: Path) -> None:
    async def scene() -> None:
        authority = Authority()
        identity = "spiffe://cluster.local/ns/default/sa/client"
        async with app() as port:
            tls = listener(chain("app", context("Downstream")))
            first = resources(tls, cluster("app", port), secret=secrets(authority, "app"))
            client = client_context(authority, identity, tmp_path)
            async with sidecar(first) as running, load(running.port, client) as clients:
                await clients.more(20)
                for name, _ in zip(cycle(("app", "other")), range(4), strict=False):
                    rotated = secrets(authority, name)
                    await running.server.apply(resources(tls, cluster("app", port), secret=rotated))
                    seen = len(clients.certificates)
                    await clients.more(20)
                    # Those who were connected stay so; who connects anew sees the new certificate.
                    async with load(running.port, client) as newcomers:
                        await newcomers.more(10)
                    assert len(newcomers.certificates) == 1
                    assert newcomers.certificates.isdisjoint(clients.certificates)
                    assert len(clients.certificates) == seen
            assert clients.lost == []

    play(scene)
