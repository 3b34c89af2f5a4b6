"""Two connections joined, over real sockets."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from mesh.platforms.netns.splice import splice

BOUND_S = 20


def pair() -> tuple[socket.socket, socket.socket]:
    """A TCP connection's two ends, which do not block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    for end in (one, other):
        end.setblocking(False)
    return one, other


async def everything(sock: socket.socket) -> bytes:
    """What comes until the end of it."""
    found = b""
    while data := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
        found += data
    return found


class Joined:
    """A client and a server with a splice between them; `ended` counts how often that said that it is over."""

    def __init__(self) -> None:
        self.client, self.accepted = pair()
        self.target, self.server = pair()
        self.ended = 0
        self.over = asyncio.Event()

    async def dial(self) -> socket.socket:
        return self.target

    def count(self) -> None:
        self.ended += 1
        self.over.set()

    async def __aenter__(self) -> "Joined":
        await splice(self.accepted, self.dial, self.count)
        return self

    async def __aexit__(self, *_: object) -> None:
        for sock in (self.client, self.server):
            sock.close()
        await self.over.wait()


def bounded(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), BOUND_S))


def test_what_a_server_says_before_the_client_is_joined_is_not_lost() -> None:
    async def scenario() -> None:
        joined = Joined()
        joined.server.send(b"hello")
        joined.server.shutdown(socket.SHUT_WR)
        async with joined:
            assert await everything(joined.client) == b"hello"
            joined.client.send(b"thanks")
            joined.client.shutdown(socket.SHUT_WR)
            assert await everything(joined.server) == b"thanks"
        assert joined.ended == 1

    bounded(scenario)


def test_the_end_of_one_direction_leaves_the_other_open() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with Joined() as joined:
            sending = asyncio.create_task(loop.sock_sendall(joined.client, b"x" * 3_000_000))
            sending.add_done_callback(lambda _: joined.client.shutdown(socket.SHUT_WR))
            assert len(await everything(joined.server)) == 3_000_000
            await loop.sock_sendall(joined.server, b"all of it")
            assert not joined.over.is_set()
            joined.server.close()
            assert await everything(joined.client) == b"all of it"
        assert joined.ended == 1

    bounded(scenario)


def test_without_anybody_to_connect_to_the_client_is_closed_and_that_is_told_once() -> None:
    async def refused() -> socket.socket:
        raise ConnectionRefusedError

    async def scenario() -> None:
        client, accepted = pair()
        ends: list[bool] = []
        await splice(accepted, refused, lambda: ends.append(True))
        assert await everything(client) == b""
        assert ends == [True]
        client.close()

    bounded(scenario)
