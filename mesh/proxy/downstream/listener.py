"""Listeners: accept, find the filter chain, and start the protocol that the chain asks for."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, cast

from mesh.proxy.downstream.connection import DownstreamConnection
from mesh.proxy.downstream.connection_info import Address, ConnectionInfo
from mesh.proxy.downstream.filter_chain import FilterChain, ListenerConfig
from mesh.proxy.downstream.http1 import Downstream
from mesh.proxy.downstream.http2 import Http2Downstream
from mesh.proxy.downstream.network_filters.network_filter import NotAdmitted, admit
from mesh.proxy.downstream.peek import Closer, Peek
from mesh.proxy.downstream.socket_options import listening_socket
from mesh.proxy.downstream.tcp import TcpDownstream
from mesh.proxy.http.config import HttpConfig
from mesh.proxy.tls.connection import Peer, TlsConnection
from mesh.proxy.tls.transport_socket import ServerTls

if TYPE_CHECKING:
    from mesh.proxy.runtime import Worker

# Istio's drainDuration: how long idle connections outlive the listener or filter chain that they came in by.
REPLACED_DRAIN_S = 45.0


class Connection(Protocol):
    """A served connection, for draining."""

    def drain(self, idle_s: float) -> None: ...
    def abort(self) -> None: ...


class ActiveListener:
    """A listener that accepts. Its configuration can be replaced while its sockets stay open.

    `of_destination` finds the listener for a connection's original destination, `is_full` tells whether one connection
    more would be too many; None where there is no limit.
    """

    def __init__(
        self,
        worker: Worker,
        config: ListenerConfig,
        of_destination: Callable[[Address], ActiveListener | None],
        is_full: Callable[[ListenerConfig], bool] | None,
        *,
        reuse_port: bool,
    ) -> None:
        self.worker = worker
        self.config = config
        self.of_destination = of_destination
        self._is_full = is_full
        self.connections: dict[Connection, FilterChain] = {}
        self._was_asked_to_leave = False
        self._left: set[Connection] = set()  # those whose chain, or the whole configuration, was replaced
        self._reuse_port = reuse_port
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._one_less = asyncio.Event()

    def bind(self, inherited: Iterable[ActiveListener]) -> None:
        """Open the sockets, without accepting yet; a port of an `inherited` listener is taken over without a gap.

        Raises OSError, and then none is open.
        """
        if not self.config.binds:
            return
        at_hand = {each.getsockname()[:2]: each for listener in inherited for each in listener._sockets}
        try:
            for address in self.config.addresses:
                known = at_hand.get(address)
                self._sockets.append(
                    known.dup()
                    if known is not None
                    else listening_socket(*address, self.config.socket_options, reuse_port=self._reuse_port)
                )
        except OSError:
            self.unbind()
            raise

    def unbind(self) -> None:
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    async def accept(self) -> None:
        """Start accepting on the sockets that `bind` has opened."""
        for each in list(self._sockets):
            server = await self.worker.loop.create_server(
                self._accepted, sock=each, backlog=self.config.socket_options.backlog
            )
            self._servers.append(server)

    @property
    def ports(self) -> list[tuple[str, int]]:
        """Where it listens; port 0 resolved."""
        return [each.getsockname()[:2] for each in self._sockets]

    def replace(self, config: ListenerConfig, *, keeps_connections: bool) -> None:
        """New connections get `config`. Those of chains that changed end with their next response; without
        `keeps_connections`, as more than chains has changed, all do.
        """
        self.config = config
        if not keeps_connections:
            self._left = set(self.connections)
        kept = {chain.source for chain in (*config.chains, config.default_chain) if chain is not None}
        self._left.update(each for each, chain in self.connections.items() if chain.source not in kept)
        self.judge_drain()
        for connection in list(self._left):
            connection.drain(REPLACED_DRAIN_S)

    async def accept_waiting(self) -> None:
        """Accept what the kernel has connected meanwhile: to close its port would reset it, with what it has sent."""
        for each in self._sockets:
            for _ in range(self.config.socket_options.backlog):
                try:
                    accepted, _ = each.accept()
                except OSError:  # there is no more, or no descriptor for it: what is left is reset with the port
                    break
                await self.worker.loop.connect_accepted_socket(self._accepted, accepted)

    def stop(self) -> None:
        """Accept no more."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self.unbind()

    def drain(self, idle_s: float) -> None:
        """Stop accepting and let each connection end with its next response, an idle one after `idle_s` seconds."""
        self.stop()
        self.ask_to_leave(idle_s)

    def ask_to_leave(self, idle_s: float) -> None:
        """Let each connection end with its next response, an idle one after `idle_s` seconds."""
        self._was_asked_to_leave = True
        self.judge_drain()
        for connection in list(self.connections):
            connection.drain(idle_s)

    @property
    def is_draining(self) -> bool:
        """Whether responses say goodbye: it leaves, or the server fails its health checks and drains for that."""
        return self._was_asked_to_leave or (self.worker.is_failing and self.config.drains_when_failing)

    def judge_drain(self) -> None:
        """`is_draining` may have changed."""
        is_draining = self.is_draining
        for connection in self.connections:
            if isinstance(connection, DownstreamConnection):
                connection.is_draining = is_draining or connection in self._left

    async def wait_empty(self) -> None:
        """Until the last connection is gone, those included that no chain or handshake is through with. Not before
        `stop`."""
        stats = self.config.stats
        while stats.downstream_cx_active or stats.downstream_pre_cx_active:
            self._one_less.clear()
            await self._one_less.wait()

    # Accepting

    def _accepted(self) -> asyncio.Protocol:
        if self._is_full is not None and self._is_full(self.config):
            return Closer()
        chain = self.config.only_chain
        return Peek(self) if chain is None else self.serve(chain, None)

    def serve(self, chain: FilterChain, info: ConnectionInfo | None) -> asyncio.Protocol:
        """The protocol for a new connection on this chain; without `info` it looks at its socket itself."""
        self.config.stats.downstream_cx_total += 1
        self.config.stats.downstream_cx_active += 1
        if chain.tls is None:
            return self._protocol(chain, None, info)
        return self._tls(chain, chain.tls, info)

    def _tls(self, chain: FilterChain, tls: ServerTls, info: ConnectionInfo | None) -> asyncio.Protocol:
        stats = self.config.stats
        context = tls.context_for(info.server_name if info is not None else "")
        if context is None:
            stats.server_ssl_socket_factory__downstream_context_secrets_not_ready += 1
            return _Ended(self._unshaken(chain, info))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        engine = context.wrap_bio(incoming, outgoing, server_side=True)

        unshaken = self._unshaken(chain, info)
        pending = _Handshake(self, chain.handshake_timeout, unshaken) if chain.handshake_timeout else None

        def shaken(peer: Peer) -> asyncio.Protocol:
            if pending is not None:
                pending.forget()
            if not tls.require_peer and not peer.uri_sans:
                stats.ssl__no_certificate += not peer.subject
            if info is not None:
                peer = replace(peer, sni=info.server_name)
            return self._protocol(chain, peer, info)

        lost = unshaken if pending is None else pending.lost
        connection = TlsConnection(
            engine, incoming, outgoing, verify=tls.verify, stats=stats, make_inner=shaken, on_lost=lost
        )
        if pending is not None:
            pending.await_end(connection)
        return connection

    def unserved(self, info: ConnectionInfo, flags: str = "", details: str = "") -> None:
        """A connection ends that no chain serves; flags and details are those of an access log."""

    def _unshaken(self, chain: FilterChain, info: ConnectionInfo | None) -> Callable[[], None]:
        """What is called when a connection ends before its handshake is done."""
        return self.gone

    def _protocol(self, chain: FilterChain, peer: Peer | None, info: ConnectionInfo | None) -> asyncio.Protocol:
        connection: Downstream | Http2Downstream | TcpDownstream
        if chain.filters and info is not None:
            try:
                admit(chain.filters, info, peer)
            except NotAdmitted as error:
                return self._turned_away(chain, peer, info, str(error))
        if isinstance(chain.config, HttpConfig):
            connection = self._http(chain.config, peer)
            connection.is_draining = self.is_draining
        else:
            connection = TcpDownstream(self.worker, chain.config, peer, self._lost)
        connection.info = info
        self.connections[connection] = chain
        return connection

    def _turned_away(self, chain: FilterChain, peer: Peer | None, info: ConnectionInfo, why: str) -> asyncio.Protocol:
        if isinstance(chain.config, HttpConfig):
            return _Ended(self.gone)
        connection = TcpDownstream(self.worker, chain.config, peer, lambda lost: self.gone())
        connection.info = info
        connection.turn_away(why)
        return connection

    def _http(self, config: HttpConfig, peer: Peer | None) -> Downstream | Http2Downstream:
        """By codec_type; AUTO goes by ALPN, and without it by the first bytes."""
        alpn = peer.alpn if peer is not None else ""
        if config.codec == "HTTP2" or (config.codec == "AUTO" and alpn == "h2"):
            return Http2Downstream(self.worker, config, peer, self._lost)
        connection = Downstream(self.worker, config, peer, self._lost)
        if config.codec == "AUTO" and not alpn:
            connection.become_http2 = self._become_http2
        return connection

    def _become_http2(self, before: Downstream, data: bytes) -> None:
        chain = self.connections.pop(before)
        self._left.discard(before)
        connection = Http2Downstream(self.worker, before.config, before.peer, self._lost)
        self.connections[connection] = chain
        connection.continue_from(before, data)

    def _lost(self, connection: Connection) -> None:
        chain = self.connections.pop(connection)
        self._left.discard(connection)
        for each in chain.filters:
            each.released()
        self.gone()

    def peeked(self) -> None:
        """The listener filters have seen enough of a connection, or it is gone."""
        self._one_less.set()
        self.config.stats.downstream_pre_cx_active -= 1

    def gone(self) -> None:
        """One connection less."""
        self._one_less.set()
        self.config.stats.downstream_cx_active -= 1
        self.config.stats.downstream_cx_destroy += 1


class _Handshake:
    """Ends a connection whose TLS handshake takes longer than transport_socket_connect_timeout."""

    def __init__(self, listener: ActiveListener, seconds: float, lost: Callable[[], None]) -> None:
        self._listener = listener
        self._lost = lost
        self._connection: TlsConnection | None = None
        self.deadline = listener.worker.loop.time() + seconds

    def await_end(self, connection: TlsConnection) -> None:
        self._connection = connection
        self._listener.worker.deadlines.add(self)

    def forget(self) -> None:
        """It is done, or given up."""
        self._listener.worker.deadlines.discard(self)

    def lost(self) -> None:
        """The connection is gone before its handshake was done."""
        self.forget()
        self._lost()

    def deadline_passed(self, now: float) -> None:
        self.forget()
        self._listener.config.stats.downstream_cx_transport_socket_connect_timeout += 1
        if self._connection is not None:
            self._connection.abort()


class _Ended(asyncio.Protocol):
    """Ends a connection that is not to be served: its chain waits for a certificate, or a filter did not admit it."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._lost()
