"""Envoy's TLS transport sockets, compiled: the server's side of a filter chain, the client's side of a cluster."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf

from mesh.proxy.observe.upstream_counters import ClusterStats
from mesh.proxy.tls import names
from mesh.proxy.tls.connection import TlsConnection, TlsFailed
from mesh.proxy.tls.context import Material, Verify
from mesh.proxy.upstream.dialling import Dial


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


@dataclass(frozen=True, slots=True)
class ServerName:
    """What one connection asks for and accepts in its transport socket's stead: the server's name, and a SAN that its
    certificate must have; empty where the configuration stays.
    """

    sni: str = ""
    san: str = ""


@dataclass(frozen=True, slots=True)
class _Known:
    """A session, and until when (seconds since 1970) the certificate holds that it began with. OpenSSL does not look at
    that again where a session is resumed; Envoy does.
    """

    context: ssl.SSLContext
    session: ssl.SSLSession
    expiry: float

    def may_serve(self, context: ssl.SSLContext) -> bool:
        return self.context is context and time.time() < self.expiry


class ClientTls:
    """An UpstreamTlsContext. `context` is swapped when its secrets change, None until they have come.

    `names_host` asks for the host's own name (`auto_host_sni`), `checks_sni` wants the name that was asked for among
    the certificate's (`auto_sni_san_validation`).
    """

    __slots__ = ("_most_sessions", "_sessions", "checks_sni", "context", "names_host", "sni", "verify")

    def __init__(self, sni: str, *, names_host: bool = False, checks_sni: bool = False, most_sessions: int = 1) -> None:
        self.sni = sni
        self.names_host = names_host
        self.checks_sni = checks_sni
        self._most_sessions = most_sessions
        self._sessions: dict[str, _Known] = {}  # by the name asked for
        self.use(None)

    def use(self, material: Material | None) -> None:
        """What new connections get."""
        self.context = material.context if material is not None else None
        self.verify = material.verify if material is not None else Verify()

    async def connect(
        self,
        loop: asyncio.AbstractEventLoop,
        inner: asyncio.Protocol,
        dial: Dial,
        stats: ClusterStats,
        *,
        name: ServerName | None = None,
        hostname: str = "",
    ) -> None:
        """Connect and shake hands; `inner` then has its connection. Raises OSError (TlsFailed is one)."""
        context = self.context
        if context is None:
            raise TlsFailed("TLS_error: secrets are not ready")
        ready: asyncio.Future[None] = loop.create_future()
        sni = (name.sni if name is not None else "") or (hostname if self.names_host else "") or self.sni
        san = (name.san if name is not None else "") or (sni if self.checks_sni else "")
        known = self._sessions.get(sni)
        session = known.session if known is not None and known.may_serve(context) else None
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        engine = context.wrap_bio(incoming, outgoing, server_hostname=sni or None, session=session)
        connection = TlsConnection(
            engine,
            incoming,
            outgoing,
            verify=self.verify if not san else replace(self.verify, sans=(names.of_any_kind(san),)),
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

    def remember(self, engine: ssl.SSLObject) -> None:
        """Keep the session to resume the next connection with, for at most `max_session_keys` names."""
        session, sni = engine.session, engine.server_hostname or ""
        if session is None or not session.has_ticket or not self._most_sessions:
            return
        self._sessions.pop(sni, None)
        if len(self._sessions) >= self._most_sessions:
            del self._sessions[next(iter(self._sessions))]
        expiry = (engine.getpeercert() or {}).get("notAfter")
        self._sessions[sni] = _Known(engine.context, session, ssl.cert_time_to_seconds(str(expiry)) if expiry else inf)
