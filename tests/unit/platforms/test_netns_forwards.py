"""Ports of the host that lead into the lab, where descriptors run out."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from typing import Any, cast

from mesh.platforms.netns.forwards import Forwards
from mesh.platforms.netns.host import HostPorts

TURNS = 2000


class Counting(socket.socket):
    """Counts how often somebody tries to take a connection."""

    tries = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.tries += 1
        return super().accept()


class Host:
    """Stands for the parent, which opens ports."""

    def __init__(self) -> None:
        self.opened: list[Counting] = []

    def listen(self, address: str, port: int) -> socket.socket:
        found = Counting()
        found.bind((address, port))
        found.listen()
        found.setblocking(False)
        self.opened.append(found)
        return found


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_connection_waits_for_a_descriptor_without_a_spin() -> None:
    asyncio.run(asyncio.wait_for(one_waits(), 30))


async def one_waits() -> None:
    host = Host()
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(20)

        async def dial() -> socket.socket:
            sock = socket.socket()
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, target.getsockname())
            return sock

        async with asyncio.TaskGroup() as group:
            forwards = Forwards(cast(HostPorts, host), group.create_task)
            address = forwards.lead("127.0.0.1", 0, dial)
            with socket.socket() as client:
                client.setblocking(False)
                with no_descriptor_left():
                    await asyncio.get_running_loop().sock_connect(client, address)
                    for _ in range(TURNS):
                        await asyncio.sleep(0)
                    assert 1 <= host.opened[0].tries < TURNS / 10
                accepted, _ = await asyncio.to_thread(target.accept)
                with accepted:
                    await asyncio.get_running_loop().sock_sendall(client, b"x")
                    assert await asyncio.to_thread(accepted.recv, 1) == b"x"
            forwards.close_all()
