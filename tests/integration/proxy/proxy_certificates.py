"""Certificates for tests, and SDS files that hold them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


@dataclass(frozen=True)
class Pair:
    """PEM text."""

    chain: str
    key: str


class Authority:
    """A root that signs leaves for SPIFFE identities and loopback addresses."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
        certificate = self._sign(self._name, self._key, [], is_ca=True)
        self.root = certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, identity: str, serial: int | None = None) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.UniformResourceIdentifier(identity), x509.IPAddress(ip_address("127.0.0.1"))]
        leaf = self._sign(x509.Name([]), key, names, is_ca=False, serial=serial)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Pair(leaf.public_bytes(serialization.Encoding.PEM).decode(), private.decode())

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        names: list[x509.GeneralName],
        *,
        is_ca: bool,
        serial: int | None = None,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1, minutes=5))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        return builder.sign(self._key, hashes.SHA256())


def write_pair(folder: Path, pair: Pair) -> None:
    """`secrets/default.json`, by rename."""
    certificate = {"certificate_chain": {"inline_string": pair.chain}, "private_key": {"inline_string": pair.key}}
    write_secret(folder / "secrets" / "default.json", {"name": "default", "tls_certificate": certificate})


def write_root(folder: Path, root: str) -> None:
    """`secrets/ROOTCA.json`, by rename."""
    trust = {"trusted_ca": {"inline_string": root}}
    write_secret(folder / "secrets" / "ROOTCA.json", {"name": "ROOTCA", "validation_context": trust})


def pair_secret(name: str, pair: Pair) -> Secret:
    secret = Secret(name=name)
    secret.tls_certificate.certificate_chain.inline_string = pair.chain
    secret.tls_certificate.private_key.inline_string = pair.key
    return secret


def write_secret(path: Path, secret: dict[str, object]) -> None:
    replace(path, json.dumps({"version_info": "1", "resources": [{"@type": _SECRET, **secret}]}))


def replace(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(0o600)
    os.replace(fresh, path)


def file_secret(name: str) -> dict[str, object]:
    """An SdsSecretConfig for the file of that name."""
    source = {"path": f"secrets/{name}.json", "watched_directory": {"path": "secrets"}}
    return {"name": name, "sds_config": {"path_config_source": source, "resource_api_version": "V3"}}


def upstream_tls() -> dict[str, object]:
    """An UpstreamTlsContext with both secrets."""
    return {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", **_common()}


def downstream_tls(certificate: dict[str, object] | None = None) -> dict[str, object]:
    """A DownstreamTlsContext that wants the client's certificate; its own is the file's, or that of `certificate`."""
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    return {"@type": kind, "require_client_certificate": True, **_common(certificate)}


def _common(certificate: dict[str, object] | None = None) -> dict[str, object]:
    return {
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [certificate or file_secret("default")],
            "validation_context_sds_secret_config": file_secret("ROOTCA"),
        }
    }
