"""The first bytes of a connection: looked at to choose its filter chain, then handed on to the chain's protocol."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, cast

from mesh.proxy.client_hello import ClientHello, read_client_hello

if TYPE_CHECKING:
    from mesh.proxy.listener import ActiveListener

_HELLO_LIMIT = 16 * 1024


class Closer(asyncio.Protocol):
    """Ends a connection that nobody can serve."""

    def __init__(self, listener: ActiveListener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._listener.gone()


class Peek(asyncio.Protocol):
    """Reads the first bytes of a connection, decides whether they are TLS and for whom, then steps aside."""

    __slots__ = ("_data", "_listener", "_transport", "deadline")

    def __init__(self, listener: ActiveListener) -> None:
        self._listener = listener
        self._data = b""
        self._transport: asyncio.Transport = None  # type: ignore[assignment] # until connection_made
        self.deadline = inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        config, worker = self._listener.config, self._listener.worker
        config.stats.downstream_pre_cx_active += 1
        if not config.inspects_tls:
            self._choose("raw_buffer", ClientHello())
        elif config.inspection_timeout:
            self.deadline = worker.loop.time() + config.inspection_timeout
            worker.idle_deadlines.add(self)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._data[0] != 0x16:
            self._choose("raw_buffer", ClientHello())
            return
        hello = read_client_hello(self._data)
        if hello is not None or len(self._data) > _HELLO_LIMIT:
            self._choose("tls", hello or ClientHello())

    def connection_lost(self, exc: BaseException | None) -> None:
        self._leave()
        self._listener.config.stats.downstream_listener_filter_remote_close += 1
        self._listener.gone()

    def deadline_passed(self, now: float) -> None:
        self._listener.config.stats.downstream_pre_cx_timeout += 1
        self._listener.worker.idle_deadlines.discard(self)
        self._transport.abort()

    def _leave(self) -> None:
        self._listener.worker.idle_deadlines.discard(self)
        self._listener.config.stats.downstream_pre_cx_active -= 1

    def _choose(self, transport_protocol: str, hello: ClientHello) -> None:
        listener, transport = self._listener, self._transport
        port = transport.get_extra_info("sockname")[1]
        chain = listener.config.find(port, transport_protocol, hello)
        self._leave()
        if chain is None:
            listener.config.stats.no_filter_chain_match += 1
            protocol: asyncio.Protocol = Closer(listener)
        else:
            protocol = listener.serve(chain, hello)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._data and not transport.is_closing():
            protocol.data_received(self._data)
