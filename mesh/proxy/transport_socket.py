"""Envoy's TLS transport sockets, compiled: the server's side of a filter chain, the client's side of a cluster."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

from mesh.proxy.counters import ClusterStats
from mesh.proxy.dialling import Dial
from mesh.proxy.tls import TlsConnection, TlsFailed
from mesh.proxy.tls_context import Material, Verify


class ServerTls:
    """A DownstreamTlsContext. `context` and what belongs to it is swapped when its secrets change; None until they have
    come.
    """

    __slots__ = ("_by_name", "context", "needs_name", "require_peer", "verify")

    def __init__(self, require_peer: bool, *, has_many: bool = False) -> None:
        self.require_peer = require_peer
        self.needs_name = has_many  # the client's, before the handshake
        self.use(None)

    def use(self, material: Material | None) -> None:
        """What new connections get."""
        self.context = material.context if material is not None else None
        self.verify = material.verify if material is not None else Verify()
        self._by_name: Mapping[str, ssl.SSLContext] = material.by_name if material is not None else {}

    def context_for(self, name: str) -> ssl.SSLContext | None:
        """That of the certificate for a server name, or else of the first."""
        if not self._by_name:
            return self.context
        return self._by_name.get(name) or self._by_name.get(f"*.{name.partition('.')[2]}") or self.context


class ClientTls:
    """An UpstreamTlsContext. `context` is swapped when its secrets change, None until they have come."""

    __slots__ = ("_session", "context", "sni", "verify")

    def __init__(self, sni: str) -> None:
        self.sni = sni
        self.use(None)
        self._session: tuple[ssl.SSLContext, ssl.SSLSession] | None = None

    def use(self, material: Material | None) -> None:
        """What new connections get."""
        self.context = material.context if material is not None else None
        self.verify = material.verify if material is not None else Verify()

    async def connect(
        self, loop: asyncio.AbstractEventLoop, inner: asyncio.Protocol, dial: Dial, stats: ClusterStats
    ) -> None:
        """Connect and shake hands; `inner` then has its connection. Raises OSError (TlsFailed is one)."""
        context = self.context
        if context is None:
            raise TlsFailed("TLS_error: secrets are not ready")
        ready: asyncio.Future[None] = loop.create_future()
        session = self._session[1] if self._session is not None and self._session[0] is context else None
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        engine = context.wrap_bio(incoming, outgoing, server_hostname=self.sni or None, session=session)
        connection = TlsConnection(
            engine,
            incoming,
            outgoing,
            verify=self.verify,
            stats=stats,
            make_inner=lambda _: inner,
            ready=ready,
            client=self,
        )
        await dial(lambda: connection)
        try:
            await ready
        except BaseException:
            connection.abort()
            raise

    def remember(self, context: ssl.SSLContext, session: ssl.SSLSession | None) -> None:
        """Keep the session to resume the next connection with."""
        if session is not None and session.has_ticket:
            self._session = (context, session)
