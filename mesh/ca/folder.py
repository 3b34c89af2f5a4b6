"""The CA's folder on disk: made once, whole or not at all, and read back at each start."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mesh.ca.authority import CLOCK_SKEW, Authority, key_usage
from mesh.ca.errors import CaFolderError
from mesh.ca.identity import TRUST_DOMAIN
from mesh.ca.tokens import TokenAuthority

ROOT_KEY, ROOT_CERT, TOKEN_KEY = "root-key.pem", "root-cert.pem", "token-key"
ROOT_TTL = timedelta(days=3650)
_TOKEN_KEY_BYTES = 32
_NEW_PREFIX = ".ca-new-"


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """Both halves of the CA: who signs certificates, and who says which pod may have one."""

    certificates: Authority
    tokens: TokenAuthority


def open_ca(folder: Path) -> CertificateAuthority:
    """The CA in `folder`, made there first if the folder does not exist. Raises CaFolderError.

    The caller holds the state folder's lock, so nobody else makes the same folder meanwhile.
    """
    try:
        if not folder.exists():
            _create(folder)
        return _load(folder)
    except OSError as error:
        raise CaFolderError(f"CA folder {folder}: {error.strerror}: {error.filename}") from error


def _create(folder: Path) -> None:
    """A crash leaves either no folder or the whole one: it is filled under another name, then renamed."""
    for leftover in folder.parent.glob(_NEW_PREFIX + "*"):
        shutil.rmtree(leftover)
    fresh = Path(tempfile.mkdtemp(prefix=_NEW_PREFIX, dir=folder.parent))
    key = ec.generate_private_key(ec.SECP256R1())
    pkcs8 = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(fresh / ROOT_KEY, pkcs8, 0o600)
    _write(fresh / TOKEN_KEY, secrets.token_bytes(_TOKEN_KEY_BYTES), 0o600)
    _write(fresh / ROOT_CERT, _self_signed(key, datetime.now(UTC)).public_bytes(serialization.Encoding.PEM), 0o644)
    _sync(fresh)
    fresh.rename(folder)
    _sync(folder.parent)


def _self_signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, TRUST_DOMAIN)])
    # X.509-SVID section 3.2: a signing certificate's SPIFFE ID is the trust domain, without a path.
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + ROOT_TTL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(key_cert_sign=True), critical=True)
        .add_extension(names, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def _load(folder: Path) -> CertificateAuthority:
    absent = [name for name in (ROOT_KEY, ROOT_CERT, TOKEN_KEY) if not (folder / name).is_file()]
    if absent:
        raise CaFolderError(
            f"CA folder {folder} is incomplete: {', '.join(absent)} missing. Restore it from a copy, or remove the "
            f"folder: a new root is then made, and every workload needs a new certificate."
        )
    for name in (ROOT_KEY, TOKEN_KEY):
        mode = stat.S_IMODE((folder / name).stat().st_mode)
        if mode & 0o077:
            raise CaFolderError(f"{folder / name} has mode {mode:04o}, others can read it: chmod 600 {folder / name}")
    token_key = (folder / TOKEN_KEY).read_bytes()
    if len(token_key) != _TOKEN_KEY_BYTES:
        raise CaFolderError(f"{folder / TOKEN_KEY} has {len(token_key)} bytes, not {_TOKEN_KEY_BYTES}: it is damaged")
    return CertificateAuthority(Authority(*_load_root(folder)), TokenAuthority(token_key))


def _load_root(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        key = serialization.load_pem_private_key((folder / ROOT_KEY).read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate((folder / ROOT_CERT).read_bytes())
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CaFolderError(f"CA folder {folder}: {ROOT_KEY} or {ROOT_CERT} is damaged") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise CaFolderError(f"CA folder {folder}: {ROOT_KEY} is not the key of {ROOT_CERT}")
    return key, certificate


def _write(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
