"""What the tests of network faults run inside of a lab: `python fault_scripts.py NAME`. Each prints a line of JSON.

Two small pods with echoing servers, a bystander, and clients in them. Whether something passed is never told by the
time it took, but by what the kernel counted, or by something else that came first.
"""

import asyncio
import contextlib
import functools
import json
import re
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from mesh.api.pod_fault import (
    Bandwidth,
    Delay,
    Direction,
    Dns,
    DnsAnswer,
    Loss,
    NetworkEffect,
    Partition,
    Reset,
)
from mesh.platforms.base import LaidFault, PlatformError
from mesh.platforms.netns.dns import Resolver
from mesh.platforms.netns.faults.network import NetworkFaults
from mesh.platforms.netns.faults.probe import lacking
from mesh.platforms.netns.faults.reader import ask_for, open_socket
from mesh.platforms.netns.faults.rules import CHAIN
from mesh.platforms.netns.lab import enter_lab
from mesh.platforms.netns.network import Hub, PodNetwork

WAIT_S = 20.0
PORT = 9000


@dataclass
class Lab:
    hub: Hub
    resolver: Resolver
    faults: NetworkFaults
    one: PodNetwork
    two: PodNetwork
    bystander: PodNetwork

    def lay(self, effect: NetworkEffect, direction: Direction = Direction.TO, *, only_two: bool = True) -> LaidFault:
        return self.faults.lay(self.one.address, effect, direction, [self.two.address] if only_two else None)

    async def connected(self, source: PodNetwork, target: PodNetwork) -> tuple[Any, Any]:
        sock = await asyncio.wait_for(source.connect(target.address, PORT), WAIT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return await asyncio.open_connection(sock=sock)

    def left(self) -> list[str]:
        """Rules of faults, and queues with a reader: those are refused to anybody else."""
        left = [line for line in self.hub.run(["iptables-save"]).splitlines() if line.startswith(f"-A {CHAIN}")]
        for number in range(1, 20):
            with open_socket() as other:
                try:
                    ask_for(other, number, lambda data: None)
                except PlatformError:
                    left.append(f"queue {number}")
        return left

    def counted(self) -> list[int]:
        """Packets that each rule has met."""
        listed = self.hub.run(["iptables", "-nvxL", CHAIN]).splitlines()[2:]
        return [int(line.split()[0]) for line in listed]


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def lab() -> AsyncIterator[Lab]:
    hub, resolver = Hub(), Resolver()
    await resolver.start(hub.address)
    hub.run(["iptables", "-A", "FORWARD", "-j", "ACCEPT"])  # as somebody may who has rules of his own there
    faults = NetworkFaults(functools.partial(hub.run, ["iptables-restore", "-n"]), resolver)
    pods = [hub.add_pod(None) for _ in range(3)]
    servers = []
    for pod in pods:
        listening = pod.new_socket()
        listening.bind(("0.0.0.0", PORT))
        listening.listen()
        servers.append(await asyncio.get_running_loop().create_server(Echo, sock=listening))
    try:
        yield Lab(hub, resolver, faults, *pods)
    finally:
        for server in servers:
            server.close()
        faults.close()
        resolver.close()


async def until(condition: Any, what: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - the kernel's counters
            await asyncio.sleep(0.01)


async def round_trip(streams: tuple[Any, Any], data: bytes = b"ping") -> float:
    began = time.monotonic()
    streams[1].write(data)
    assert await asyncio.wait_for(streams[0].readexactly(len(data)), WAIT_S) == data
    return time.monotonic() - began


async def probe() -> dict[str, Any]:
    return {"lacking": {str(name): why for name, why in lacking().items()}}


async def delay() -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with lab() as here:
        streams = await here.connected(here.one, here.two)
        effect = Delay(latency=timedelta(milliseconds=100), jitter=timedelta(milliseconds=30))
        for direction in Direction:
            laid = here.lay(effect, direction)
            found[f"laid for {direction}"] = len(here.left())
            found[direction] = [await round_trip(streams) for _ in range(3)]
            found["packets of the bystander"] = await _met_by(here, here.bystander)
            laid.lift()
            found[f"left of {direction}"] = here.left()
            await round_trip(streams)
    return found


async def _met_by(here: Lab, pod: PodNetwork) -> int:
    """How many packets of a round trip between another pod and `two` the faults' rules meet."""
    before = sum(here.counted())
    await round_trip(await here.connected(pod, here.two))
    return sum(here.counted()) - before


async def order() -> dict[str, Any]:
    """Datagrams under a jitter of much more than lies between them."""
    async with lab() as here:
        receiver = here.two.new_socket(socket.SOCK_DGRAM)
        receiver.bind(("0.0.0.0", 5000))
        sender = here.one.new_socket(socket.SOCK_DGRAM)
        here.lay(Delay(latency=timedelta(milliseconds=60), jitter=timedelta(milliseconds=50)))
        for number in range(50):
            sender.sendto(str(number).encode(), (here.two.address, 5000))
        loop = asyncio.get_running_loop()
        heard = [int(await asyncio.wait_for(loop.sock_recv(receiver, 10), WAIT_S)) for _ in range(50)]
        sender.close()
        receiver.close()
        return {"in order": heard == sorted(heard), "heard": len(heard)}


async def lifted_while_it_waits() -> dict[str, Any]:
    """What waits when a fault ends goes on at once, and not when it would have been due."""
    async with lab() as here:
        streams = await here.connected(here.one, here.two)
        laid = here.lay(Delay(latency=timedelta(hours=1)))
        streams[1].write(b"ping")
        await until(lambda: sum(here.counted()) > 0, "the packet waits")
        laid.lift()
        return {"heard": (await asyncio.wait_for(streams[0].readexactly(4), WAIT_S)).decode(), "left": here.left()}


async def no_reader() -> dict[str, Any]:
    """The rule stays, and who reads the queue is gone: packets pass."""
    async with lab() as here:
        streams = await here.connected(here.one, here.two)
        here.lay(Delay(latency=timedelta(hours=1)))
        here.faults.close()
        await round_trip(streams)
        return {"met": sum(here.counted()) > 0}


async def bandwidth() -> dict[str, Any]:
    async with lab() as here:
        streams = await here.connected(here.one, here.two)
        laid = here.lay(Bandwidth(rate=800_000))
        took = await round_trip(streams, b"x" * 60_000)
        laid.lift()
        left = here.left()
        await round_trip(streams, b"x" * 60_000)
        return {"took": took, "left": left}


async def partition() -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with lab() as here:
        streams = await here.connected(here.one, here.two)
        laid = here.lay(Partition(), Direction.BOTH)
        streams[1].write(b"late")
        heard = asyncio.create_task(streams[0].readexactly(4))
        new = asyncio.create_task(here.one.connect(here.two.address, PORT))
        await until(lambda: here.counted()[0] >= 3, "packets of both connections are dropped")
        found["while parted"] = [heard.done(), new.done()]
        await round_trip(await here.connected(here.one, here.bystander))  # others are not
        await round_trip(await here.connected(here.bystander, here.two))
        laid.lift()
        laid.lift()
        found["left"] = here.left()
        found["heard"] = (await asyncio.wait_for(heard, WAIT_S)).decode()  # TCP says it again
        (await asyncio.wait_for(new, WAIT_S)).close()
        whole = here.lay(Partition(), only_two=False)
        dropped = [asyncio.create_task(here.one.connect(pod.address, PORT)) for pod in (here.two, here.bystander)]
        await until(lambda: here.counted()[0] >= 2, "one for each")
        found["alone"] = [task.done() for task in dropped]
        whole.lift()
        for task in dropped:
            (await asyncio.wait_for(task, WAIT_S)).close()
    return found


async def loss() -> dict[str, Any]:
    """Of 2,000 datagrams each is either counted as dropped, or heard."""
    async with lab() as here:
        receiver = here.two.new_socket(socket.SOCK_DGRAM)
        receiver.bind(("0.0.0.0", 5000))
        sender = here.one.new_socket(socket.SOCK_DGRAM)
        laid = here.lay(Loss(percent=25))
        heard: list[bytes] = []
        sent = 2000

        def hear() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    heard.append(receiver.recv(10))

        loop = asyncio.get_running_loop()
        loop.add_reader(receiver, hear)
        for number in range(sent):
            sender.sendto(str(number).encode(), (here.two.address, 5000))
            if number % 20 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(heard) + here.counted()[0] == sent, "all are heard or dropped")
        dropped = here.counted()[0]
        laid.lift()
        left = here.left()
        sender.sendto(b"last", (here.two.address, 5000))
        await until(lambda: heard[-1] == b"last", "nothing is dropped any more")
        loop.remove_reader(receiver)
        receiver.close()
        sender.close()
        return {"dropped": dropped, "left": left}


async def reset() -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with lab() as here:
        streams = await here.connected(here.one, here.two)
        laid = here.lay(Reset(), Direction.BOTH)
        streams[1].write(b"ping")
        found["established"] = await _failure(streams[0].readexactly(4))
        found["new"] = await _failure(here.one.connect(here.two.address, PORT))
        await round_trip(await here.connected(here.one, here.bystander))
        laid.lift()
        found["left"] = here.left()
        await round_trip(await here.connected(here.one, here.two))
    return found


async def _failure(attempt: Any) -> str:
    try:
        await asyncio.wait_for(attempt, WAIT_S)
    except OSError as error:
        return type(error).__name__
    return "none"


async def dns() -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with lab() as here:
        here.resolver.table = {"reviews.default": ["10.96.0.7"], "other.default": ["10.96.0.8"]}
        found["before"] = await _asked(here, here.one, "reviews.default")
        for kind in DnsAnswer:
            laid = here.faults.lay(here.one.address, Dns(answer=kind, patterns=("rev*.default",)), Direction.TO, None)
            # Of two questions the second one is answered alone where the first one gets no answer.
            found[kind] = await _asked(here, here.one, "reviews.default", "other.default")
            found["of another pod"] = await _asked(here, here.bystander, "reviews.default")
            laid.lift()
            laid.lift()
        found["after"] = await _asked(here, here.one, "reviews.default")
    return found


async def _asked(here: Lab, pod: PodNetwork, *names: str) -> list[Any]:
    """The first answer's name and code."""
    sock = pod.new_socket(socket.SOCK_DGRAM)
    sock.connect((here.hub.address, 53))
    for name in names:
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
        sock.send(struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!HH", 1, 1))
    reply = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 512), WAIT_S)
    sock.close()
    asked = re.sub(rb"[\x01-\x1f]", b".", reply[12 : reply.index(b"\0", 12)]).decode().strip(".")
    return [asked, reply[3] & 15]


if __name__ == "__main__":
    enter_lab()
    print(json.dumps(asyncio.run(globals()[sys.argv[1]]())))
