"""Workload certificates for a run, signed by the mesh's own CA."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.scenarios import CLIENT_IDENTITY, SERVER_IDENTITY
from mesh.ca.authority import Validity
from mesh.ca.folder import open_ca


def make_certificates(folder: Path) -> Path:
    """`root.pem`, and `<name>.pem` with `<name>.key` for client and server, in a folder of the CA's."""
    authority = open_ca(folder / "ca").certificates
    validity = Validity.starting(datetime.now(UTC), timedelta(hours=1))
    for name, identity in (("client", CLIENT_IDENTITY), ("server", SERVER_IDENTITY)):
        key = ec.generate_private_key(ec.SECP256R1())
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        signed = authority.sign_workload(request.public_bytes(serialization.Encoding.PEM), identity, validity)
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        write(folder / f"{name}.key", key.private_bytes(serialization.Encoding.PEM, *form))
        write(folder / f"{name}.pem", "".join(signed.chain).encode())
    write(folder / "root.pem", authority.root_pem.encode())
    return folder


def write(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)
