"""A small certificate authority, for proxies of tests: real keys, real certificates."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


class Authority:
    """Signs certificates for SPIFFE identities, or for addresses."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "test mesh")])
        builder = self._builder(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self._certificate = builder.sign(self._key, hashes.SHA256())

    @property
    def root(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, *identities: x509.GeneralName) -> tuple[bytes, bytes]:
        """Key and chain as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([]), key.public_key())
        builder = builder.add_extension(x509.SubjectAlternativeName(identities), critical=True)
        certificate = builder.sign(self._key, hashes.SHA256())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return pem, certificate.public_bytes(serialization.Encoding.PEM)

    def write_secrets(self, folder: Path, identity: str) -> None:
        """The two SDS files that the agent writes."""
        folder.mkdir(parents=True, exist_ok=True)
        key, chain = self.issue(x509.UniformResourceIdentifier(identity))
        certificate = {
            "certificate_chain": {"inline_string": chain.decode()},
            "private_key": {"inline_string": key.decode()},
        }
        trust = {"trusted_ca": {"inline_string": self.root.decode()}}
        for name, body in (("default", {"tls_certificate": certificate}), ("ROOTCA", {"validation_context": trust})):
            secret = {"@type": _SECRET, "name": name, **body}
            (folder / f"{name}.json").write_text(json.dumps({"resources": [secret]}))

    def write_pem(self, folder: Path) -> None:
        """A server's files for `a.example.com`, by the names that Kubernetes gives them."""
        folder.mkdir(parents=True, exist_ok=True)
        key, chain = self.issue(x509.DNSName("a.example.com"))
        for name, content in (("tls.crt", chain), ("tls.key", key), ("ca.crt", self.root)):
            (folder / name).write_bytes(content)

    def write_files(self, folder: Path, identity: str) -> None:
        """The files that the agent writes for gRPC."""
        folder.mkdir(parents=True, exist_ok=True)
        key, chain = self.issue(x509.UniformResourceIdentifier(identity))
        for name, content in (("cert-chain.pem", chain), ("key.pem", key), ("root-cert.pem", self.root)):
            (folder / name).write_bytes(content)

    def _builder(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
        )
