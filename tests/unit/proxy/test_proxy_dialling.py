"""What a connection to a host is opened with."""

from __future__ import annotations

import asyncio
import socket

import pytest

from mesh.proxy.upstream.dialling import Dial

ALIVE = ((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 33))


class Client(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


async def connect(port: int, *ips: str) -> tuple[int, int]:
    """The options of a connection to the port: SO_KEEPALIVE and TCP_KEEPIDLE."""
    client = Client()
    await Dial(asyncio.get_running_loop(), ips, port, ALIVE)(lambda: client)
    assert client.transport is not None
    opened = client.transport.get_extra_info("socket")
    found = tuple(opened.getsockopt(level, name) for level, name, _ in ALIVE)
    client.transport.close()
    return found[0], found[1]


@pytest.mark.parametrize("ips", [("127.0.0.1",), ("127.255.0.9", "127.0.0.1")])
def test_options_are_on_the_socket_of_the_first_address_that_answers(ips: tuple[str, ...]) -> None:
    async def main() -> tuple[int, int]:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        try:
            return await connect(server.sockets[0].getsockname()[1], *ips)
        finally:
            server.close()

    assert asyncio.run(main()) == (1, 33)


def test_a_connection_comes_from_the_address_that_is_wanted() -> None:
    async def main() -> str:
        peer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer.set_result(writer.get_extra_info("peername")[0])
            writer.close()

        server = await asyncio.start_server(accepted, "127.0.0.1", 0)
        try:
            port = server.sockets[0].getsockname()[1]
            await Dial(asyncio.get_running_loop(), ("127.0.0.1",), port, source=("127.0.0.6", 0))(Client)
            return await peer
        finally:
            server.close()

    assert asyncio.run(main()) == "127.0.0.6"


def test_a_port_that_nobody_listens_on_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            asyncio.run(connect(taken.getsockname()[1], "127.0.0.1"))
