"""A key and a signing request for it, for drills that come with credentials of their own."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def make_key_and_csr() -> tuple[str, str]:
    """A fresh EC P-256 key (PKCS #8 PEM) and a request that proves it (PEM) and names nobody."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode(), csr.public_bytes(serialization.Encoding.PEM).decode()
