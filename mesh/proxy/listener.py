"""Listeners: accept, find the filter chain, and start the protocol that the chain asks for."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Protocol, cast

from mesh.proxy.client_hello import ClientHello, read_client_hello
from mesh.proxy.counters import ListenerStats
from mesh.proxy.downstream import Downstream
from mesh.proxy.http_config import HttpConfig
from mesh.proxy.tcp import TcpConfig, TcpDownstream
from mesh.proxy.tls import Peer, ServerTls, TlsConnection

if TYPE_CHECKING:
    from mesh.proxy.runtime import Worker

_BACKLOG = 1024
_HELLO_LIMIT = 16 * 1024
# Istio's drainDuration: how long idle connections outlive the listener or filter chain that they came in by.
REPLACED_DRAIN_S = 45.0


class Connection(Protocol):
    """A served connection, for draining."""

    def drain(self, idle_s: float) -> None: ...
    def abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ChainMatch:
    """`FilterChainMatch`. Empty fields match everything."""

    destination_port: int = 0
    server_names: tuple[str, ...] = ()
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class FilterChain:
    """One filter chain. `source` is its protobuf's bytes: chains that stay the same keep their connections."""

    name: str
    match: ChainMatch
    tls: ServerTls | None
    config: HttpConfig | TcpConfig
    source: bytes


@dataclass(slots=True, eq=False)
class ListenerConfig:
    """A compiled listener. `addresses` are (ip, port); the first is its main one."""

    name: str
    addresses: tuple[tuple[str, int], ...]
    chains: tuple[FilterChain, ...]
    default_chain: FilterChain | None
    inspects_tls: bool
    inspection_timeout: float
    stats: ListenerStats

    @property
    def needs_peek(self) -> bool:
        """Whether the chain depends on the connection's first bytes."""
        return self.inspects_tls and any(chain.match != ChainMatch() for chain in self.chains)

    def find(self, port: int, transport: str, hello: ClientHello) -> FilterChain | None:
        """The most specific chain, criterion after criterion in Envoy's order, without going back."""
        chains = [(chain, chain.match) for chain in self.chains]
        chains = _narrow(chains, lambda m: m.destination_port == port, lambda m: not m.destination_port)
        chains = _by_server_name(chains, hello.server_name.lower())
        chains = _narrow(chains, lambda m: m.transport_protocol == transport, lambda m: not m.transport_protocol)
        alpn = set(hello.alpn)
        chains = _narrow(
            chains, lambda m: not alpn.isdisjoint(m.application_protocols), lambda m: not m.application_protocols
        )
        return chains[0][0] if chains else self.default_chain


_Chains = list[tuple[FilterChain, ChainMatch]]


def _narrow(chains: _Chains, is_named: Callable[[ChainMatch], bool], is_open: Callable[[ChainMatch], bool]) -> _Chains:
    return [item for item in chains if is_named(item[1])] or [item for item in chains if is_open(item[1])]


def _by_server_name(chains: _Chains, name: str) -> _Chains:
    wanted = [name] if name else []
    parts = name.split(".")
    wanted += ["*." + ".".join(parts[index:]) for index in range(1, len(parts))]
    for candidate in wanted:
        found = [item for item in chains if candidate in item[1].server_names]
        if found:
            return found
    return [item for item in chains if not item[1].server_names]


class ActiveListener:
    """A listener that accepts. Its configuration can be replaced while its sockets stay open."""

    def __init__(self, worker: Worker, config: ListenerConfig, reuse_port: bool) -> None:
        self.worker = worker
        self.config = config
        self.connections: dict[Connection, FilterChain] = {}
        self._reuse_port = reuse_port
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._empty = asyncio.Event()

    def bind(self, inherited: Iterable[ActiveListener]) -> None:
        """Open the sockets, without accepting yet; a port of an `inherited` listener is taken over without a gap.

        Raises OSError, and then none is open.
        """
        at_hand = {each.getsockname()[:2]: each for listener in inherited for each in listener._sockets}
        try:
            for address in self.config.addresses:
                known = at_hand.get(address)
                self._sockets.append(known.dup() if known is not None else _bound(*address, self._reuse_port))
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
            server = await self.worker.loop.create_server(self._accepted, sock=each, backlog=_BACKLOG)
            self._servers.append(server)

    @property
    def ports(self) -> list[tuple[str, int]]:
        """Where it listens; port 0 resolved."""
        return [each.getsockname()[:2] for each in self._sockets]

    def replace(self, config: ListenerConfig) -> None:
        """New connections get `config`; those of chains that changed end with their next response."""
        kept = {chain.source for chain in config.chains}
        self.config = config
        for connection, chain in list(self.connections.items()):
            if chain.source not in kept:
                connection.drain(REPLACED_DRAIN_S)

    def stop(self) -> None:
        """Accept no more."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self.unbind()

    def drain(self, idle_s: float) -> None:
        """Stop accepting and let each connection end with its next response, an idle one after `idle_s` seconds."""
        self.stop()
        for connection in list(self.connections):
            connection.drain(idle_s)

    async def wait_empty(self) -> None:
        """Until the last connection is gone. Not before `stop`."""
        if self.connections:
            self._empty.clear()
            await self._empty.wait()

    # Accepting

    def _accepted(self) -> asyncio.Protocol:
        config = self.config
        config.stats.downstream_cx_total += 1
        config.stats.downstream_cx_active += 1
        if not config.needs_peek and len(config.chains) == 1 and config.chains[0].match == ChainMatch():
            return self.serve(config.chains[0], ClientHello())
        return _Peek(self)

    def serve(self, chain: FilterChain, hello: ClientHello) -> asyncio.Protocol:
        """The protocol for a new connection on this chain."""
        if chain.tls is None:
            return self._protocol(chain, None)
        return self._tls(chain, chain.tls, hello)

    def _tls(self, chain: FilterChain, tls: ServerTls, hello: ClientHello) -> asyncio.Protocol:
        stats = self.config.stats
        context = tls.context
        if context is None:
            stats.server_ssl_socket_factory__downstream_context_secrets_not_ready += 1
            return _Closer(self)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        engine = context.wrap_bio(incoming, outgoing, server_side=True)

        def shaken(peer: Peer) -> asyncio.Protocol:
            if not tls.require_peer and not peer.uri_sans:
                stats.ssl__no_certificate += not peer.subject
            return self._protocol(chain, replace(peer, sni=hello.server_name))

        return TlsConnection(
            engine, incoming, outgoing, verify=tls.verify, stats=stats, make_inner=shaken, on_lost=self.gone
        )

    def _protocol(self, chain: FilterChain, peer: Peer | None) -> asyncio.Protocol:
        connection: Downstream | TcpDownstream
        if isinstance(chain.config, HttpConfig):
            connection = Downstream(self.worker, chain.config, peer, self._lost)
        else:
            connection = TcpDownstream(self.worker, chain.config, peer, self._lost)
        self.connections[connection] = chain
        return connection

    def _lost(self, connection: Connection) -> None:
        del self.connections[connection]
        if not self.connections:
            self._empty.set()
        self.gone()

    def gone(self) -> None:
        """One connection less."""
        self.config.stats.downstream_cx_active -= 1
        self.config.stats.downstream_cx_destroy += 1


class _Closer(asyncio.Protocol):
    """Ends a connection that nobody can serve."""

    def __init__(self, listener: ActiveListener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._listener.gone()


class _Peek(asyncio.Protocol):
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
            protocol: asyncio.Protocol = _Closer(listener)
        else:
            protocol = listener.serve(chain, hello)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._data and not transport.is_closing():
            protocol.data_received(self._data)


def _bound(ip: str, port: int, reuse_port: bool) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setblocking(False)
        bound.bind((ip, port))
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
