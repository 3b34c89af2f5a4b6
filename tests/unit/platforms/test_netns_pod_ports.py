"""Ports of the host that lead to a pod: which way each takes, and that they end with the pod."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from mesh.api.pod import Pod
from mesh.config.decode import decode_object
from mesh.platforms.netns.forwards import Address, Forwards
from mesh.platforms.netns.pod_ports import PodPorts

LOOPBACK, POD = "127.0.0.1", "10.244.0.9"


class Host:
    def listen(self, address: str, port: int) -> socket.socket:
        made = socket.create_server((address, port))
        made.setblocking(False)
        return made


class Network:
    """Says by which way it was asked for which address; nobody listens on loopback but on 15000."""

    async def within(self, address: str, port: int) -> socket.socket:
        if (address, port) != (LOOPBACK, 15000) and address == LOOPBACK:
            raise ConnectionRefusedError
        return self._saying(f"within {address}:{port}")

    async def beside(self, address: str, port: int) -> socket.socket:
        return self._saying(f"beside {address}:{port}")

    def _saying(self, text: str) -> socket.socket:
        near, far = socket.socketpair()
        near.setblocking(False)
        with far:
            far.sendall(text.encode())
        return near


async def said_at(address: Address) -> str:
    reader, writer = await asyncio.wait_for(asyncio.open_connection(*address), 10)
    said = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return said.decode()


def pod(*containers: dict[str, object]) -> Pod:
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": containers}}
    found = decode_object(manifest).resource
    assert isinstance(found, Pod)
    return found


def app(**port: object) -> dict[str, object]:
    return {"name": "app", "image": "app", "ports": [{"containerPort": 8000, **port}]}


PROXY: dict[str, object] = {"name": "istio-proxy", "image": "proxy", "ports": [{"containerPort": 15006}]}


def in_loop(work: Callable[[PodPorts, Forwards], Awaitable[None]]) -> None:
    async def run() -> None:
        network = Network()
        async with asyncio.TaskGroup() as group:
            forwards = Forwards(Host(), group.create_task)
            try:
                await work(PodPorts(forwards, POD, within=network.within, beside=network.beside), forwards)
            finally:
                forwards.close_all()

    asyncio.run(run())


def test_tools_are_led_to_apps_as_from_another_pod_and_to_the_proxys_own_ports_from_inside() -> None:
    async def work(ports: PodPorts, _: Forwards) -> None:
        opened = ports.open_for_tools(pod(app(), PROXY))
        assert sorted(opened) == [8000, 15000, 15020, 15021, 15090]
        assert await said_at(opened[8000]) == f"beside {POD}:8000"
        assert await said_at(opened[15000]) == f"within {LOOPBACK}:15000"
        assert await said_at(opened[15021]) == f"within {POD}:15021"  # it listens on the pod's address alone
        assert ports.show(15000) == opened[15000]
        assert ports.reach(8000) == opened[8000]

    in_loop(work)


def test_a_pod_without_a_proxy_and_ports_of_udp_open_no_more_than_is_there() -> None:
    async def work(ports: PodPorts, _: Forwards) -> None:
        assert ports.open_for_tools(pod(app(protocol="UDP"))) == {}

    in_loop(work)


def test_with_the_pod_its_ports_close_and_a_host_port_stays_for_who_follows() -> None:
    async def work(ports: PodPorts, forwards: Forwards) -> None:
        _, number = forwards.claim(LOOPBACK, 0)
        ports.open_host_ports(pod(app(hostPort=number)))
        shown = ports.show(9000)
        assert await said_at((LOOPBACK, number)) == f"beside {POD}:8000"
        ports.close()
        assert await said_at((LOOPBACK, number)) == ""
        with pytest.raises(ConnectionRefusedError):
            await said_at(shown)

    in_loop(work)
