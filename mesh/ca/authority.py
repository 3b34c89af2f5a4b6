"""What the root signs: workload certificates (SPIFFE X.509-SVID) and the control plane's own server certificate."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.ca.csr import workload_public_key
from mesh.ca.errors import ValidityError
from mesh.ca.identity import WorkloadIdentity

DEFAULT_TTL = timedelta(hours=1)
MAX_TTL = timedelta(hours=24)
SERVER_TTL = timedelta(days=365)
# Clocks of containers and hosts disagree a little; Istio allows for it in the same way.
CLOCK_SKEW = timedelta(minutes=1)

_LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
_CONTROL_PLANE = WorkloadIdentity("istio-system", "istiod")


@dataclass(frozen=True, slots=True)
class Validity:
    """The two ends of a certificate's life (aware, UTC)."""

    not_before: datetime
    not_after: datetime

    @classmethod
    def starting(cls, now: datetime, ttl: timedelta) -> Validity:
        """From just before `now` for `ttl`. Raises ValidityError unless it is positive and at most MAX_TTL."""
        if not timedelta(0) < ttl <= MAX_TTL:
            raise ValidityError(
                f"a certificate lives more than 0 and at most {MAX_TTL.total_seconds():.0f} seconds, "
                f"not {ttl.total_seconds():.0f}"
            )
        return cls(now - CLOCK_SKEW, now + ttl)

    @classmethod
    def between(cls, not_before: datetime, not_after: datetime) -> Validity:
        """Any bounded span, also one that is over or yet to come. Raises ValidityError."""
        if not timedelta(0) < not_after - not_before <= MAX_TTL + CLOCK_SKEW:
            raise ValidityError(f"notAfter must follow notBefore by at most {MAX_TTL.total_seconds():.0f} seconds")
        return cls(not_before, not_after)


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """The chain (PEM, leaf first, without the root), the root (PEM), and the end of the leaf's life (aware, UTC)."""

    chain: tuple[str, ...]
    root: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class ServerCredentials:
    """A key and its chain for a TLS server (PEM). `repr` shows neither."""

    key: bytes
    chain: bytes

    def __repr__(self) -> str:
        return "ServerCredentials(...)"


class Authority:
    """The root key at work. Holds no state beyond it: what was signed is not remembered, certificates just run out."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate
        self.root_pem = certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign_workload(self, csr: bytes, identity_uri: str, validity: Validity) -> SignedCertificate:
        """A certificate for the key of `csr` (PEM) and `identity_uri`; all else that the request asks for is ignored.

        Raises CsrError.
        """
        # X.509-SVID section 4.1: one URI SAN is the whole identity; with an empty subject it is critical (RFC 5280).
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity_uri)])
        leaf = self._sign(workload_public_key(csr), names, validity)
        return SignedCertificate((_pem(leaf),), self.root_pem, validity.not_after)

    def issue_server(self, address: str, now: datetime) -> ServerCredentials:
        """A fresh key and certificate for the control plane's own ports at the IP `address`, and at this machine's
        loopback, from where a port may lead there."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [
                x509.UniformResourceIdentifier(_CONTROL_PLANE.uri),
                x509.DNSName("istiod.istio-system.svc"),
                *(x509.IPAddress(each) for each in sorted({ipaddress.ip_address(address), _LOOPBACK})),
            ]
        )
        leaf = self._sign(key.public_key(), names, Validity(now - CLOCK_SKEW, now + SERVER_TTL))
        pkcs8 = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return ServerCredentials(pkcs8, _pem(leaf).encode())

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        names: x509.SubjectAlternativeName,
        validity: Validity,
    ) -> x509.Certificate:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(validity.not_before)
            .not_valid_after(validity.not_after)
            .add_extension(names, critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(digital_signature=True, key_encipherment=isinstance(key, rsa.RSAPublicKey)), True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())


def key_usage(
    *, digital_signature: bool = False, key_encipherment: bool = False, key_cert_sign: bool = False
) -> x509.KeyUsage:
    """The key usage extension (RFC 5280 section 4.2.1.3) with the named bits, all others off; CRLs go with signing."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
