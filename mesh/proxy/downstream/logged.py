"""Connections of listeners with an access log of their own (`Listener.access_log`): what they did, told at their end.

Such a listener looks at all of its connections before their chain is found. Listeners without pay nothing for this.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mesh.proxy.downstream.connection_info import ConnectionInfo, text_of
from mesh.proxy.downstream.filter_chain import FilterChain
from mesh.proxy.downstream.http2 import Http2Downstream
from mesh.proxy.downstream.listener import ActiveListener
from mesh.proxy.downstream.tcp import TcpDownstream

if TYPE_CHECKING:
    from mesh.proxy.runtime import Worker
    from mesh.proxy.tls.connection import Peer
    from mesh.proxy.upstream.host import Host


class Record:
    """One connection as access logs see it: what they see of a TCP connection, and the protocol that it spoke."""

    __slots__ = (
        "attempts", "bytes_received", "bytes_sent", "chain_name", "cluster_name", "connection_id", "details", "elapsed",
        "flags", "host", "info", "local_address", "peer", "protocol", "remote_address", "started", "termination",
        "transport_failure", "upstream_local_address", "upstream_peer", "worker",
    )  # fmt: skip

    log_type = "NotSet"

    def __init__(self, worker: Worker, info: ConnectionInfo, started: float, chain: FilterChain | None) -> None:
        self.worker = worker
        self.info = info
        self.started = started
        self.chain_name = chain.name if chain is not None else ""
        self.connection_id = self.bytes_received = self.bytes_sent = self.attempts = 0
        self.elapsed = 0.0
        self.flags = self.details = self.transport_failure = self.cluster_name = self.upstream_local_address = ""
        self.protocol: str | None = None
        self.termination: str | None = None
        self.host: Host | None = None
        self.peer: Peer | None = None
        self.upstream_peer: Peer | None = None
        self.remote_address = self.local_address = ""

    @property
    def metadata(self) -> dict[str, dict[str, Any]]:
        return self.info.metadata

    def take(self, served: Any) -> None:
        """What is known of the connection by the one who served it."""
        self.peer = served.peer
        self.connection_id = served.connection_id
        if not isinstance(served, TcpDownstream):
            spoken = "HTTP/2" if isinstance(served, Http2Downstream) else served.protocol
            self.protocol = spoken if self.bytes_received else None
            return
        if not served.upstream_local_address:
            self.bytes_received = 0  # as Envoy, which reads nothing before there is somewhere to send it
        self.flags, self.termination = served.flags, served.termination
        self.transport_failure = served.transport_failure
        self.host, self.attempts = served.host, served.attempts
        self.cluster_name = served.cluster_name if served.cluster is not None else ""
        self.upstream_local_address, self.upstream_peer = served.upstream_local_address, served.upstream_peer

    def write(self, steps: tuple[Callable[[Any], None], ...]) -> None:
        """The connection is over."""
        self.elapsed = time.monotonic() - self.started
        self.remote_address, self.local_address = text_of(self.info.remote), text_of(self.info.local)
        for step in steps:
            step(self)


class LoggedListener(ActiveListener):
    """Logs every connection at its end."""

    def unserved(self, info: ConnectionInfo, flags: str = "", details: str = "") -> None:
        record = Record(self.worker, info, time.monotonic(), None)
        record.flags, record.details = flags, details
        record.write(self.config.log_steps)

    def _protocol(self, chain: FilterChain, peer: Peer | None, info: ConnectionInfo | None) -> asyncio.Protocol:
        served = super()._protocol(chain, peer, info)
        assert info is not None
        return _Counted(served, Record(self.worker, info, time.monotonic(), chain), self.config.log_steps)

    def _unshaken(self, chain: FilterChain, info: ConnectionInfo | None) -> Callable[[], None]:
        assert info is not None
        record, steps = Record(self.worker, info, time.monotonic(), chain), self.config.log_steps

        def lost() -> None:
            self.gone()
            record.connection_id = next(self.worker.connection_ids)
            record.write(steps)

        return lost


class _Counted(asyncio.Protocol):
    """Stands before the protocol that serves a connection, and after TLS, to count its bytes."""

    __slots__ = ("record", "served", "steps")

    def __init__(self, served: asyncio.Protocol, record: Record, steps: tuple[Callable[[Any], None], ...]) -> None:
        self.served = served
        self.record = record
        self.steps = steps

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.served.connection_made(_CountedTransport(transport, self))  # type: ignore[arg-type] # one in all but name

    def data_received(self, data: bytes) -> None:
        self.record.bytes_received += len(data)
        self.served.data_received(data)

    def eof_received(self) -> bool | None:
        return self.served.eof_received()

    def pause_writing(self) -> None:
        self.served.pause_writing()

    def resume_writing(self) -> None:
        self.served.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.served.connection_lost(exc)
        if hasattr(self.served, "connection_id"):
            self.record.take(self.served)
        self.record.write(self.steps)


class _CountedTransport:
    """The transport, which counts what is written."""

    __slots__ = ("_counted", "_transport")

    def __init__(self, transport: Any, counted: _Counted) -> None:
        self._transport = transport
        self._counted = counted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._counted.record.bytes_sent += len(data)
        self._transport.write(data)

    def writelines(self, pieces: list[bytes]) -> None:
        self._counted.record.bytes_sent += sum(map(len, pieces))
        self._transport.writelines(pieces)

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        """Another serves from now on (HTTP/2 in place of HTTP/1.1)."""
        self._counted.served = protocol
