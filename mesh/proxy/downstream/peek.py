"""The first bytes of a connection: shown to the listener filters one after the other, then handed on to its chain."""

from __future__ import annotations

import asyncio
import socket
import struct
from math import inf
from typing import TYPE_CHECKING, cast

from mesh.proxy.downstream.connection_info import ConnectionInfo
from mesh.proxy.downstream.early_close import has_ended
from mesh.proxy.downstream.listener_filters.listener_filter import ListenerFilterFailed

if TYPE_CHECKING:
    from mesh.proxy.downstream.listener import ActiveListener


_RESET = struct.pack("ii", 1, 0)  # to linger for no time


class Closer(asyncio.Protocol):
    """Ends a connection that nobody can serve."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


class Peek(asyncio.Protocol):
    """Runs the listener filters on a connection, finds its chain, then steps aside.

    `hands_off` as long as the connection may go to the listener of its original destination.
    """

    __slots__ = ("_data", "_filters", "_hands_off", "_info", "_listener", "_next", "_transport", "deadline")

    def __init__(self, listener: ActiveListener, *, hands_off: bool = True) -> None:
        self._hands_off = hands_off
        self._info: ConnectionInfo = None  # type: ignore[assignment] # until connection_made
        self._transport: asyncio.Transport = None  # type: ignore[assignment] # likewise
        self._data = b""
        self._begin(listener)

    def _begin(self, listener: ActiveListener) -> None:
        self._listener = listener
        self._filters = listener.config.filters
        self._next = 0
        self.deadline = inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._info = ConnectionInfo.of(transport)
        self._start()

    def _start(self) -> None:
        config, worker = self._listener.config, self._listener.worker
        config.stats.downstream_pre_cx_active += 1
        if config.filters_timeout:
            self.deadline = worker.loop.time() + config.filters_timeout
            worker.deadlines.add(self)
        self._enter()
        self._proceed()

    def data_received(self, data: bytes) -> None:
        self._data += data
        if has_ended(self._transport):  # as in Envoy, who goes while the filters look is not served
            self.eof_received()
            self._transport.abort()
            return
        self._proceed()

    def eof_received(self) -> None:
        """Bytes that nobody took make a reset of the end, as where the kernel still had them."""
        connection = self._transport.get_extra_info("socket")
        if self._data and connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._leave()
        self._listener.config.stats.downstream_listener_filter_remote_close += 1
        self._listener.unserved(self._info)

    def deadline_passed(self, now: float) -> None:
        config = self._listener.config
        config.stats.downstream_pre_cx_timeout += 1
        if config.continues_on_timeout:
            self._choose()
        else:
            self._leave()
            self._close()

    def _enter(self) -> None:
        """The filter whose turn it is sees the connection before any of its bytes; those that spare it have no turn."""
        filters = self._filters
        while self._next < len(filters):
            current = filters[self._next]
            if current.spares is None or not current.spares(self._info):
                current.accepted(self._info, self._transport.get_extra_info("socket"))
                return
            self._next += 1

    def _proceed(self) -> None:
        """As far as the bytes at hand allow."""
        while self._next < len(self._filters):
            current = self._filters[self._next]
            if current.needs_data:
                if not self._data:
                    return
                try:
                    consumed = current.inspect(self._data, self._info)
                except ListenerFilterFailed:
                    self._leave()
                    self._close()
                    return
                if consumed is None:
                    return
                self._data = self._data[consumed:]
            self._next += 1
            self._enter()
        self._choose()

    def _leave(self) -> None:
        self._listener.worker.deadlines.discard(self)
        self._listener.peeked()

    def _close(self, flags: str = "", details: str = "") -> None:
        self._listener.unserved(self._info, flags, details)
        self._transport.set_protocol(Closer())
        self._transport.abort()

    def _choose(self) -> None:
        self._leave()
        if self._hands_off and self._listener.config.uses_original_dst and self._info.is_local_restored:
            self._hands_off = False
            other = self._listener.of_destination(self._info.local)
            if other is not None and other is not self._listener:
                self._begin(other)
                self._start()
                return
        chain = self._listener.config.find(self._info)
        if chain is None:
            self._listener.config.stats.no_filter_chain_match += 1
            self._close("NR", "filter_chain_not_found")
            return
        transport = self._transport
        protocol = self._listener.serve(chain, self._info)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._data and not transport.is_closing():
            protocol.data_received(self._data)
