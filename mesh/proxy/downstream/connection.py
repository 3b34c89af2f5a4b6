"""What the connections of every server codec share: who the client is, what is counted, and how a connection ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, cast

from mesh.proxy.downstream.connection_info import ConnectionInfo, text_of

if TYPE_CHECKING:
    from mesh.proxy.http.config import HttpConfig
    from mesh.proxy.runtime import Worker
    from mesh.proxy.tls.connection import Peer


class Lifetime:
    """The moment at which a connection has lived for long enough."""

    __slots__ = ("connection", "deadline")

    def __init__(self, connection: DownstreamConnection, seconds: float) -> None:
        self.connection = connection
        self.deadline = connection.worker.loop.time() + seconds

    def deadline_passed(self, now: float) -> None:
        self.connection.outlived()


class DownstreamConnection(asyncio.Protocol):
    """A client's connection. `deadline` is the one moment that the sweeps look at, whatever it is for.

    `is_draining` asks for the connection to end with its next response.
    """

    __slots__ = (
        "_ended", "_lifetime", "_unsent", "config", "connection_id", "deadline", "forwarded_proto", "info",
        "is_draining", "local_address", "on_lost", "opened", "peer", "remote_address", "remote_ip", "scheme",
        "transport", "worker",
    )  # fmt: skip

    def __init__(self, worker: Worker, config: HttpConfig, peer: Peer | None, on_lost: Callable[[Any], None]) -> None:
        self.worker = worker
        self.config = config
        self.peer = peer
        self.on_lost = on_lost
        self.info: ConnectionInfo | None = None  # set before connection_made where listener filters found it out
        self.scheme = b"http" if peer is None else b"https"
        self.forwarded_proto = b"x-forwarded-proto: %b" % self.scheme
        self.transport: asyncio.Transport = None  # type: ignore[assignment] # until connection_made
        self.deadline = inf
        self.is_draining = False
        self._ended = False
        self._lifetime: Lifetime | None = None
        self._unsent = 0  # bytes of the response still to be taken by the client, when last looked at

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        info = self.info = self.info or ConnectionInfo.of(transport)
        self.remote_address = text_of(info.remote)
        self.local_address = text_of(info.local)
        self.remote_ip = info.remote[0].encode()
        self.connection_id = next(self.worker.connection_ids)
        self.opened = time.monotonic()
        if self.config.write_limit:
            self.transport.set_write_buffer_limits(self.config.write_limit)
        stats = self.config.stats
        stats.downstream_cx_total += 1
        stats.downstream_cx_active += 1
        if self.peer is not None:
            stats.downstream_cx_ssl_total += 1
            stats.downstream_cx_ssl_active += 1
        if self.config.idle_timeout:
            self.deadline = self.worker.loop.time() + self.config.idle_timeout
            self.worker.idle_deadlines.add(self)

        if self.config.max_connection_duration:
            self._lifetime = Lifetime(self, self.config.max_connection_duration)
            self.worker.idle_deadlines.add(self._lifetime)

    def outlived(self) -> None:
        """max_connection_duration is over."""
        self._forget_lifetime()
        if not self._ended:
            self.config.stats.downstream_cx_max_duration_reached += 1
            self.drain(self.config.drain_timeout)

    def _forget_lifetime(self) -> None:
        if self._lifetime is not None:
            self.worker.idle_deadlines.discard(self._lifetime)
            self._lifetime = None

    def drain(self, idle_s: float) -> None:
        """End after what is in flight, or after `idle_s` seconds without anything."""
        raise NotImplementedError

    def take_over(self, before: DownstreamConnection) -> None:
        """Go on with a connection that has begun, and is counted, in another codec."""
        self.transport = before.transport
        self.info = before.info
        self.remote_address = before.remote_address
        self.local_address = before.local_address
        self.remote_ip = before.remote_ip
        self.connection_id = before.connection_id
        self.opened = before.opened
        self.deadline = before.deadline
        self.is_draining = before.is_draining
        self.worker.idle_deadlines.discard(before)
        self._lifetime, before._lifetime = before._lifetime, None
        if self._lifetime is not None:
            self._lifetime.connection = self
        self.transport.set_protocol(self)
        if self.config.idle_timeout:
            self.worker.idle_deadlines.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._ended = True
        self._forget_lifetime()
        self.worker.idle_deadlines.discard(self)
        self.worker.deadlines.discard(self)
        stats = self.config.stats
        stats.downstream_cx_active -= 1
        stats.downstream_cx_destroy += 1
        if self.peer is not None:
            stats.downstream_cx_ssl_active -= 1
        stats.downstream_cx_length_ms.record((time.monotonic() - self.opened) * 1e3)
        self.lost()
        self.on_lost(self)

    def lost(self) -> None:
        """The client is gone: end what is in flight."""
        raise NotImplementedError

    def eof_received(self) -> None:
        """The client has gone, or says no more; as Envoy we take the one for the other."""
        if not self._ended:
            self._finish()

    def abort(self) -> None:
        """Close at once; a request in flight ends here."""
        self.transport.abort()

    def _finish(self) -> None:
        self._ended = True
        self.transport.close()
        self._unsent = self.transport.get_write_buffer_size()
        if self._unsent:
            self._await_end()

    def _linger(self) -> None:
        """Say that no more comes, then wait a little for the client to stop: closing on bytes that it still sends
        would reset the connection and could destroy the answer on its way (Envoy's delayed_close_timeout).
        """
        self._ended = True
        if not self.config.delayed_close or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
        self._unsent = self.transport.get_write_buffer_size()
        self._await_end()

    def _await_end(self) -> None:
        """Allow the client delayed_close_timeout from the last byte that it took, as Envoy does; 0 is for ever."""
        self.worker.idle_deadlines.discard(self)
        if self.config.delayed_close:
            self.deadline = self.worker.loop.time() + self.config.delayed_close
            self.worker.deadlines.add(self)

    def deadline_passed(self, now: float) -> None:
        """A connection stays in the sweep for life; what its deadline was for depends on where it is in it."""
        if not self._ended:
            self._idled(now)
            return
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        if self._unsent < before:
            self.deadline = now + self.config.delayed_close
            return
        self.config.stats.downstream_cx_delayed_close_timeout += 1
        self.transport.abort()

    def _idled(self, now: float) -> None:
        """The deadline of a connection that is not ending."""
        raise NotImplementedError
