"""A stage for the sidecar without sockets: bytes in, bytes out, on both of its sides."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster as ClusterMessage
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.listener.v3.listener_pb2 import Listener

from mesh.proxy import decode
from mesh.proxy.compile.clusters import compile_cluster
from mesh.proxy.compile.listeners import compile_listener
from mesh.proxy.downstream.http1 import Downstream
from mesh.proxy.fields import Place
from mesh.proxy.observe.stats import Stats
from mesh.proxy.observe.upstream_counters import ClusterStats
from mesh.proxy.resources import Resources
from mesh.proxy.runtime import Runtime, Worker
from mesh.proxy.tls.connection import Peer
from mesh.proxy.upstream.cluster import Cluster

_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


class Wire:
    """A transport that keeps what is written, and tells the protocol above it what a test says came in."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.written = b""
        self.is_closed = False
        self.is_half_closed = False
        self.blocks_at: int | None = None  # with more than so many bytes written, tell the proxy to stop
        self.is_paused = False
        self.unsent = 0  # bytes that the other side has not taken

    # What the proxy does

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.written += data
        if self.blocks_at is not None and len(self.written) > self.blocks_at:
            self.protocol.pause_writing()

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            if not self.unsent:
                asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        waits, self.unsent = self.unsent > 0, 0
        if waits and self.is_closed:
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)
        self.close()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_half_closed = True

    def set_write_buffer_limits(self, high: int) -> None:
        self.blocks_at = high

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("10.0.0.1", 1111), "sockname": ("10.0.0.2", 2222)}.get(name, default)

    # What the other side does

    def comes(self, data: bytes) -> None:
        self.protocol.data_received(data)

    def ends(self, error: Exception | None = None) -> None:
        self.is_closed = True
        self.protocol.connection_lost(error)

    def take(self) -> bytes:
        """What was written since the last call, with what changes from run to run made the same."""
        taken, self.written = self.written, b""
        taken = re.sub(rb"date: [^\r]*", b"date: D", taken)
        taken = re.sub(rb"x-request-id: [0-9a-f-]{36}", b"x-request-id: I", taken)
        return re.sub(rb"service-time: \d+", b"service-time: T", taken)


class _Loop:
    """The running loop, except that connections are made to the stage's own wires."""

    def __init__(
        self, real: asyncio.AbstractEventLoop, connect: Callable[[Any, str, int], None], silent: set[int]
    ) -> None:
        self._real = real
        self._connect = connect
        self._silent = silent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def create_connection(self, factory: Callable[[], Any], ip: str, port: int) -> None:
        if port in self._silent:
            await asyncio.Event().wait()
        self._connect(factory(), ip, port)


class Stage:
    """One sidecar: `routes` are Route messages as YAML, `clusters` are fields of Cluster by name, `hcm` and `listener`
    more fields of theirs.
    """

    def __init__(
        self,
        routes: str,
        clusters: dict[str, str] | None = None,
        *,
        hcm: str = "",
        filters: str = "",
        virtual_host: str = "",
        node: Node | None = None,
        direction: str = "OUTBOUND",
        listener: str = "",
    ) -> None:
        self.silent_ports: set[int] = set()
        loop: Any = _Loop(asyncio.get_running_loop(), self._connected, self.silent_ports)
        self.stats = Stats()
        self.upstreams: list[Wire] = []
        self.refused_ports: set[int] = set()
        self.worker = Worker(loop, print)
        text = f"{_listener(routes, hcm, filters, virtual_host, direction)}\n{listener}"
        message = Listener()
        decode.parse(text, message, "listener")
        compiled = compile_listener(message, node or Node(id="n"), self.stats, self.worker.logs, Place("Listener", "l"))
        self.config: Any = compiled.config.chains[0].config
        self.clusters = {name: self._cluster(name, text) for name, text in (clusters or {"app": ""}).items()}
        self.worker.runtime = Runtime(Resources(), {}, {}, self.clusters)

    def client(self, peer: Peer | None = None) -> Wire:
        """A new connection; `peer` is who the client proved to be over TLS."""
        connection = Downstream(self.worker, self.config, peer, lambda lost: None)
        wire: Any = Wire(connection)
        connection.connection_made(wire)
        return wire

    async def settle(self) -> None:
        """Let everything happen that is due now."""
        for _ in range(6):
            await asyncio.sleep(0)

    async def upstream(self, number: int = 0) -> Wire:
        """The connection that the proxy opened as its `number`th."""
        await self.settle()
        return self.upstreams[number]

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for what a deadline will bring; fails after 3 seconds."""
        async with asyncio.timeout(3):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
                await asyncio.sleep(0.005)

    def counter(self, name: str) -> Any:
        return next((sample.value for sample in self.stats.snapshot() if sample.name == name), 0)

    def _connected(self, protocol: Any, ip: str, port: int) -> None:
        if port in self.refused_ports:
            raise ConnectionRefusedError(111, "Connection refused")
        wire: Any = Wire(protocol)
        self.upstreams.append(wire)
        protocol.connection_made(wire)

    def _cluster(self, name: str, text: str) -> Cluster:
        message = ClusterMessage()
        ports = re.findall(r"port: (\d+)", text) or ["80"]
        fields = re.sub(r"port: \d+\n?", "", text)
        endpoints = ", ".join(
            f"{{endpoint: {{address: {{socket_address: {{address: 10.1.0.1, port_value: {port}}}}}}}}}"
            for port in ports
        )
        decode.parse(
            f"name: {name}\ntype: STATIC\nload_assignment: {{endpoints: [{{lb_endpoints: [{endpoints}]}}]}}\n{fields}",
            message,
            name,
        )
        config = compile_cluster(message, Place("Cluster", name)).config
        loop: Any = self.worker.loop
        cluster = Cluster(
            config,
            self.stats.group(ClusterStats, f"cluster.{name}"),
            loop,
            self.worker.idle_deadlines,
            self.worker.spawn,
        )
        cluster.replace_endpoints(config.assignment)
        return cluster


def _listener(routes: str, hcm: str, filters: str, virtual_host: str, direction: str) -> str:
    return f"""
traffic_direction: {direction}
address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
filter_chains:
- filters:
  - name: hcm
    typed_config:
      "@type": {_HCM}
      stat_prefix: t
      route_config: {{virtual_hosts: [{{name: v, {virtual_host} domains: ["*"], routes: [{routes}]}}]}}
      http_filters: [{filters} {{name: router, typed_config: {{"@type": {_ROUTER}}}}}]
{_indented(hcm)}
"""


def _indented(text: str) -> str:
    return "\n".join(f"      {line}" for line in text.splitlines())


def play(scene: Callable[[], Any]) -> None:
    """Run an asynchronous scene."""
    asyncio.run(scene())
