"""Clients as the mesh should and should not admit them: the certificate that each kind brings."""

from __future__ import annotations

import datetime
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.client import MeshClient

Bearer = Literal["plaintext", "mesh", "noCertificate", "wrongAuthority", "expired", "wrongIdentity"]
FOREIGN_DOMAIN = "spiffe://elsewhere.example/ns/default/sa/intruder"


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key and its certificate chain, PEM."""

    key: str
    chain: str


def bearer(client: MeshClient, kind: Bearer, identity: str) -> Identity | Literal["plaintext"] | None:
    """What that kind of client shows: an identity, None for TLS without a certificate, or "plaintext"."""
    match kind:
        case "plaintext":
            return "plaintext"
        case "noCertificate":
            return None
        case "wrongAuthority":
            return _self_made(identity)
        case "expired":
            now = datetime.datetime.now(datetime.UTC)
            return _issued(client, identity, now - datetime.timedelta(hours=2), now - datetime.timedelta(hours=1))
        case "wrongIdentity":
            return _issued(client, FOREIGN_DOMAIN)
        case "mesh":
            return _issued(client, identity)


def _issued(
    client: MeshClient,
    identity: str,
    not_before: datetime.datetime | None = None,
    not_after: datetime.datetime | None = None,
) -> Identity:
    credentials = client.issue_credentials(identity, not_before=not_before, not_after=not_after)
    return Identity(credentials.key, credentials.chain)


def _self_made(identity: str) -> Identity:
    """The right identity, vouched for by an authority that the mesh does not know."""
    now = datetime.datetime.now(datetime.UTC)
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "An authority of nobody")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=True)
        .sign(authority, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Identity(pem.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode())


class IdentityFiles:
    """A key and chain as a file, since Python's ssl loads them from nowhere else. Mode 0600, and removed."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def __enter__(self) -> Path:
        self._folder = tempfile.TemporaryDirectory(prefix="meshdrill-client-")
        path = Path(self._folder.name, "identity.pem")
        path.touch(mode=0o600)
        path.write_text(self._identity.key + self._identity.chain)
        return path

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()
