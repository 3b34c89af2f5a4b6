"""Proxies of a scenario in one process and in memory: real listeners, clusters and TLS, without sockets or a kernel.

What a proxy writes waits until the other side's turn comes, as it would in a socket; nothing here takes long enough to
show beside the code that is measured.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any

import click
from envoy.config.cluster.v3.cluster_pb2 import Cluster as ClusterMessage
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.listener.v3.listener_pb2 import Listener

from benchmarks.scenarios import Json, Proxy
from mesh.proxy import decode
from mesh.proxy.compile.clusters import compile_cluster
from mesh.proxy.compile.listeners import compile_listener
from mesh.proxy.compile.tls import ContextPlan
from mesh.proxy.downstream.listener import ActiveListener
from mesh.proxy.fields import Place
from mesh.proxy.observe.stats import Stats
from mesh.proxy.observe.upstream_counters import ClusterStats
from mesh.proxy.resources import Resources
from mesh.proxy.runtime import Runtime, Worker
from mesh.proxy.upstream.cluster import Cluster

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"  # what wrk sends
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 200\r\n\r\n" + b"x" * 200
Address = tuple[str, int]


class Wire:
    """One end of a connection, as a transport: what it is given to write, `wrote` is told."""

    def __init__(self, protocol: Any, wrote: Callable[[bytes], None]) -> None:
        self.protocol = protocol
        self.write = wrote

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("10.0.0.1", 1111), "sockname": ("10.0.0.2", 2222)}.get(name, default)

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


class Network:
    """The running loop, whose connections are wires: to a proxy that listens there, or else to an upstream."""

    def __init__(self) -> None:
        self._real = asyncio.get_running_loop()
        self._listeners: dict[Address, ActiveListener] = {}
        self._sent: deque[tuple[Any, bytes]] = deque()
        self._asked: list[Any] = []  # protocols that wait for their upstream's answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def listen(self, address: Address, listener: ActiveListener) -> None:
        self._listeners[address] = listener

    async def create_connection(self, factory: Callable[[], Any], ip: str, port: int) -> None:
        near = factory()
        listener = self._listeners.get((ip, port))
        if listener is None:
            near.connection_made(Wire(near, lambda data: self._asked.append(near)))
            return
        far = self.connect(listener, lambda data: self._sent.append((near, data)))
        near.connection_made(Wire(near, lambda data: self._sent.append((far, data))))
        self.deliver()

    def connect(self, listener: ActiveListener, wrote: Callable[[bytes], None]) -> Any:
        """The listener's protocol for a new connection, whose client is told what it writes."""
        chain = listener.config.only_chain
        assert chain is not None
        protocol: Any = listener.serve(chain, None)
        protocol.connection_made(Wire(protocol, wrote))
        return protocol

    def deliver(self) -> bool:
        """Until nothing is on its way: hand over what was written, and let every upstream answer that was asked, the
        collector of spans too. Whether one was.
        """
        sent, asked, found = self._sent, self._asked, False
        while sent or asked:
            while sent:
                protocol, data = sent.popleft()
                protocol.data_received(data)
            while asked:
                found = True
                asked.pop().data_received(RESPONSE)
        return found


class Path:
    """The proxies of a scenario, and one client of the first."""

    def __init__(self, proxies: list[Proxy]) -> None:
        self._network = Network()
        listeners = [self._start(each.bootstrap["static_resources"]) for each in proxies]
        self._client = self._network.connect(listeners[0], lambda data: None)

    def _start(self, resources: Json) -> ActiveListener:
        stats = Stats()
        loop: Any = self._network
        worker = Worker(loop, click.echo)
        message = Listener()
        decode.parse(json.dumps(resources["listeners"][0]), message, "listener")
        compiled = compile_listener(message, Node(id="n"), stats, worker.logs, Place("Listener", "entry"))
        _put_in_force(compiled.contexts)
        clusters = {each["name"]: _cluster(each, stats, worker) for each in resources["clusters"]}
        worker.runtime = Runtime(Resources(), {}, {}, clusters)
        listener = ActiveListener(worker, compiled.config, lambda address: None, None, reuse_port=False)
        self._network.listen(compiled.config.addresses[0], listener)
        return listener

    def request(self) -> bool:
        """One request and its answer; whether it got as far as an upstream, which it does not while one connects."""
        self._client.data_received(REQUEST)
        return self._network.deliver()

    async def warm_up(self, requests: int) -> None:
        """Until every cluster has its connection and every cache its entries."""
        for _ in range(requests):
            if not self.request():
                await self._connected()

    async def _connected(self) -> None:
        for _ in range(100):
            await asyncio.sleep(0.01)
            if self._network.deliver():
                return
        raise AssertionError("a request got no further in a second")


def _cluster(fields: Json, stats: Stats, worker: Worker) -> Cluster:
    message = ClusterMessage()
    decode.parse(json.dumps(fields), message, fields["name"])
    compiled = compile_cluster(message, Place("Cluster", fields["name"]))
    _put_in_force(compiled.contexts)
    group = stats.group(ClusterStats, f"cluster.{fields['name']}")
    cluster = Cluster(compiled.config, group, worker.loop, worker.idle_deadlines, worker.spawn)
    cluster.replace_endpoints(compiled.config.assignment)
    return cluster


def _put_in_force(contexts: tuple[ContextPlan, ...]) -> None:
    for plan in contexts:
        plan.owner.use(plan.build({}))
