"""Certificate signing requests: of what a workload sends, only a sound public key that it holds is taken."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mesh.ca.errors import CsrError

MAX_CSR_BYTES = 8192
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 4096  # larger keys would let one request keep the control plane busy


def workload_public_key(csr: bytes) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """The public key of a PKCS #10 request (PEM), whose signature proves that the sender holds the private one.

    Raises CsrError.
    """
    if len(csr) > MAX_CSR_BYTES:
        raise CsrError(f"the request is larger than {MAX_CSR_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(csr)
        key = request.public_key()
        if not _is_accepted(key):
            raise CsrError("the key must be EC P-256, EC P-384 or RSA of 2048 to 4096 bits")
        proven = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise CsrError("the request is not a PKCS #10 request in PEM form") from error
    if not proven:
        raise CsrError("the request is not signed by the key that it names")
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    return key


def _is_accepted(key: object) -> bool:
    match key:
        case ec.EllipticCurvePublicKey():
            return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
        case rsa.RSAPublicKey():
            return _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS
    return False
