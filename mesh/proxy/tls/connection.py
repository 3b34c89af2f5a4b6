"""A TLS connection: our own record pump over the plain transport.

`TlsConnection` sits between asyncio's transport and the real protocol and offers that protocol a transport of its own.
Each read decrypts everything at hand and is passed on as one piece; each write is one `SSL_write` and one transport
write.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from mesh.proxy.observe.downstream_counters import ListenerStats
from mesh.proxy.observe.upstream_counters import ClusterStats
from mesh.proxy.tls.context import Verify, name_text

if TYPE_CHECKING:
    from mesh.proxy.tls.transport_socket import ClientTls

_PIECE = 32 * 1024  # a memory BIO never gives back what it has grown to: it is to grow to no more than this

SslStats = ClusterStats | ListenerStats


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a TLS connection. `uri_sans` come from a verified certificate; what logs seldom ask for is left
    in `session`.
    """

    uri_sans: tuple[str, ...] = ()
    subject: str = ""
    sni: str = ""
    alpn: str = ""
    version: str = ""
    cipher: str = ""
    session: ssl.SSLObject | None = field(default=None, repr=False, compare=False)

    @property
    def principal(self) -> str:
        return self.uri_sans[0] if self.uri_sans else ""

    @property
    def dns_sans(self) -> tuple[str, ...]:
        certificate: dict[str, Any] = (self.session.getpeercert() or {}) if self.session is not None else {}
        return tuple(str(value) for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS")


class TlsFailed(ConnectionError):
    """The handshake did not succeed; the text says why."""


class TlsConnection(asyncio.Protocol, asyncio.Transport):
    """The protocol of a plain transport and the transport of an inner protocol at once: one hop less a message.

    `make_inner` is called with the verified peer once the handshake is done; only then does anybody see a byte.
    """

    __slots__ = (
        "_client", "_closing", "_engine", "_incoming", "_inner", "_make_inner", "_on_lost", "_outgoing", "_raw",
        "_ready", "_stats", "_verify", "peer",
    )  # fmt: skip

    def __init__(
        self,
        engine: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        *,
        verify: Verify,
        stats: SslStats,
        make_inner: Callable[[Peer], asyncio.Protocol | None],
        ready: asyncio.Future[None] | None = None,
        client: ClientTls | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        asyncio.Transport.__init__(self)
        self._engine = engine
        self._incoming = incoming
        self._outgoing = outgoing
        self._verify = verify
        self._stats = stats
        self._make_inner = make_inner
        self._ready = ready
        self._client = client
        self._on_lost = on_lost
        self._inner: asyncio.Protocol | None = None
        self._raw: asyncio.Transport = None  # type: ignore[assignment] # until connection_made
        self._closing = False
        self.peer = Peer()

    # The plain transport's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)
        if not self._engine.server_side:
            self._shake_hands()

    def data_received(self, data: bytes | memoryview) -> None:
        if len(data) > _PIECE:
            view = memoryview(data)
            for at in range(0, len(data), _PIECE):
                self.data_received(view[at : at + _PIECE])
            return
        self._incoming.write(data)
        if self._inner is None and not self._closing:
            self._shake_hands()
        inner = self._inner
        if inner is not None:
            self._decrypt(inner)

    def eof_received(self) -> bool:
        return self._inner is not None and bool(self._inner.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        was_closing, self._closing = self._closing, True
        if self._inner is not None:
            self._inner.connection_lost(exc)
            return
        if not was_closing and (self._ready is None or not self._ready.done()):
            self._stats.ssl__connection_error += 1
        if self._on_lost is not None:
            self._on_lost()
        self._fail("TLS_error: connection closed during the handshake")

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    # Inner workings

    def _shake_hands(self) -> None:
        try:
            self._engine.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._flush()  # the alert that tells the other side why
            self._count(error)
            self._refuse(_envoy_words(error.reason or "UNKNOWN"))
            return
        self._flush()
        self._shaken()

    def _count(self, error: ssl.SSLError) -> None:
        if isinstance(error, ssl.SSLCertVerificationError):
            self._stats.ssl__fail_verify_error += 1
        elif error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            self._stats.ssl__fail_verify_no_cert += 1
        else:
            self._stats.ssl__connection_error += 1

    def _shaken(self) -> None:
        engine = self._engine
        certificate: dict[str, Any] = engine.getpeercert() or {}
        if not self._is_accepted(certificate):
            self._refuse(_envoy_words("CERTIFICATE_VERIFY_FAILED"))
            return
        self._stats.ssl__handshake += 1
        if engine.session_reused:
            self._stats.ssl__session_reused += 1
        cipher = engine.cipher()
        self.peer = Peer(
            uri_sans=tuple(str(value) for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"),
            subject=name_text(certificate.get("subject", ())),
            alpn=engine.selected_alpn_protocol() or "",
            version=engine.version() or "",
            cipher=cipher[0] if cipher else "",
            session=engine,
        )
        self._inner = self._make_inner(self.peer)
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
        if self._inner is None:
            self._raw.abort()
        else:
            self._inner.connection_made(self)

    def _is_accepted(self, certificate: dict[str, Any]) -> bool:
        """Whether the peer is one that we want; who may do without a certificate, and does, is."""
        verify = self._verify
        if not verify.sans and not verify.pins:
            return True
        der = self._engine.getpeercert(binary_form=True)
        if der is None:
            return True
        if not verify.accepts_names(certificate):
            self._stats.ssl__fail_verify_san += 1
            return False
        if verify.pins and not verify.accepts_pins(der):
            self._stats.ssl__fail_verify_cert_hash += 1
            return False
        return True

    def _decrypt(self, inner: asyncio.Protocol) -> None:
        incoming, engine = self._incoming, self._engine
        data = b""
        ended = False
        try:
            # Plaintext is never longer than its record, so a read of what is pending takes a record whole, and is
            # shorter than was asked for. But of one that began in an earlier read the engine may hold more.
            size = incoming.pending
            while size:
                piece = engine.read(size)
                if not piece:  # close_notify, while ours is not out yet; after that it is an SSLZeroReturnError
                    ended = True
                    break
                data = data + piece if data else piece
                size = incoming.pending or (engine.pending() if len(piece) == size else 0)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError:
            self._stats.ssl__connection_error += 1
            self._raw.abort()
            return
        if self._outgoing.pending:
            self._flush()
        if data:
            if self._client is not None:
                self._client.remember(engine)
                self._client = None
            inner.data_received(data)
        if ended and not self._closing and not inner.eof_received():
            self.close()

    def _refuse(self, reason: str) -> None:
        self._closing = True
        self._fail(reason)
        self._raw.close()

    def _fail(self, reason: str) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(TlsFailed(reason))

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._raw.write(data)

    # The inner protocol's transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data:
            return
        if len(data) > _PIECE:
            view = memoryview(data)
            for at in range(0, len(data), _PIECE):
                self.write(view[at : at + _PIECE])
            return
        try:
            written = self._engine.write(data)
            if written < len(data):
                rest = memoryview(data)
                while written < len(data):
                    written += self._engine.write(rest[written:])
        except ssl.SSLError:
            self._stats.ssl__connection_error += 1
            self.abort()
            return
        self._raw.write(self._outgoing.read())

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self.write_eof()
        self._raw.close()

    def write_eof(self) -> None:
        """Tell the other side that no more comes (close_notify); it may still send."""
        try:
            self._engine.unwrap()
        except ssl.SSLError:
            pass  # our close_notify is out; theirs is not waited for
        self._flush()

    def abort(self) -> None:
        self._closing = True
        if self._raw is not None:
            self._raw.abort()

    def is_closing(self) -> bool:
        return self._closing or self._raw.is_closing()

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._inner = cast(asyncio.Protocol, protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.peer if name == "peer" else self._raw.get_extra_info(name, default)


def _envoy_words(reason: str) -> str:
    # The number is BoringSSL's code of CERTIFICATE_VERIFY_FAILED; OpenSSL has no such number for other reasons.
    code = 268435581 if reason == "CERTIFICATE_VERIFY_FAILED" else 268435456
    return f"TLS_error:|{code}:SSL routines:OPENSSL_internal:{reason}:TLS_error_end"
