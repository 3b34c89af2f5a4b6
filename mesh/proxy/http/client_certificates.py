"""The x-forwarded-client-cert header: whose certificate came with a connection, told to those behind us."""

from __future__ import annotations

import ssl
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from mesh.proxy.tls.context import Context

if TYPE_CHECKING:
    from mesh.proxy.http.origin import Mark
    from mesh.proxy.http.stream import Stream
    from mesh.proxy.tls.connection import Peer

NAME = b"x-forwarded-client-cert"


def forward_only(stream: Stream) -> None:
    """FORWARD_ONLY: what came stays, if its bearer has a certificate."""
    head = stream.head
    if NAME in head.marked and _der(stream.connection.peer) is None:
        head.remove((NAME,))


def tell(*, appends: bool, details: frozenset[str]) -> Mark:
    """APPEND_FORWARD, or else SANITIZE_SET; `details` are the names of SetCurrentClientCertDetails."""
    elements: WeakKeyDictionary[ssl.SSLObject, bytes] = WeakKeyDictionary()

    def mark(stream: Stream) -> None:
        head, peer = stream.head, stream.connection.peer
        if peer is None or peer.session is None or (der := _der(peer)) is None:
            if NAME in head.marked:
                head.remove((NAME,))
            return
        element = elements.get(peer.session)
        if element is None:
            element = elements[peer.session] = _element(peer, peer.session, der, details)
        before = head.marked.get(NAME) if appends else None
        head.set(NAME, b"%b,%b" % (before, element) if before else element)

    return mark


def _der(peer: Peer | None) -> bytes | None:
    return peer.session.getpeercert(binary_form=True) if peer is not None and peer.session is not None else None


def _element(peer: Peer, session: ssl.SSLObject, der: bytes, details: frozenset[str]) -> bytes:
    ours = session.context.uri_sans if isinstance(session.context, Context) else ()
    parts = [f"By={uri}" for uri in ours]
    parts.append(f"Hash={sha256(der).hexdigest()}")
    if "cert" in details:
        from urllib.parse import quote  # noqa: PLC0415 - only who wants whole certificates needs it

        parts.append(f'Cert="{quote(ssl.DER_cert_to_PEM_cert(der), safe="")}"')
    if "subject" in details:
        parts.append(f'Subject="{peer.subject}"')
    if "uri" in details:
        parts += [f"URI={uri}" for uri in peer.uri_sans] or ["URI="]
    if "dns" in details:
        certificate: dict[str, Any] = session.getpeercert() or {}
        parts += [f"DNS={value}" for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return ";".join(parts).encode("utf-8")
