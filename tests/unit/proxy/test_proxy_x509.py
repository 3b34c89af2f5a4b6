"""Certificates as `/certs` shows them, against the library that made them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from mesh.proxy.tls.x509 import Certificate, CertificateError, certificates

BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAMES: list[x509.GeneralName] = [
    x509.DNSName("reviews.default.svc"),
    x509.UniformResourceIdentifier("spiffe://cluster.local/ns/default/sa/bookinfo-reviews"),
    x509.IPAddress(ip_address("127.64.0.1")),
    x509.IPAddress(ip_address("::1")),
]


def made(
    *, rsa_key: bool = False, serial: int = 1, end: datetime = BEGIN + timedelta(days=1), names: bool = True
) -> bytes:
    key = rsa.generate_private_key(65537, 2048) if rsa_key else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "n" * 60), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "ü")]
    )
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(serial).not_valid_before(BEGIN).not_valid_after(end)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(NAMES), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("rsa_key", [False, True])
@pytest.mark.parametrize("serial", [1, 255, 2**159 - 1])
def test_what_the_page_shows_is_what_was_signed(rsa_key: bool, serial: int) -> None:
    names = (
        ("dns", "reviews.default.svc"),
        ("uri", "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"),
        ("ip_address", "127.64.0.1"),
        ("ip_address", "::1"),
    )
    pem = made(rsa_key=rsa_key, serial=serial)
    assert certificates(pem) == [Certificate(serial, BEGIN, BEGIN + timedelta(days=1), names)]


def test_a_year_beyond_2049_is_read() -> None:
    end = datetime(2055, 6, 7, 8, 9, 10, tzinfo=UTC)
    assert certificates(made(end=end))[0].not_after == end


def test_a_chain_is_read_in_order_and_names_may_be_absent() -> None:
    assert [each.serial for each in certificates(made(serial=5) + b"text\n" + made(serial=6, names=False))] == [5, 6]


def test_no_certificate_is_an_empty_list() -> None:
    assert certificates(b"") == []


@pytest.mark.parametrize("cut", [1, 3, 10, 40])
def test_a_damaged_certificate_is_refused(cut: int) -> None:
    lines = made().splitlines()
    body = b"".join(lines[1:-1])[: cut * 4]
    with pytest.raises(CertificateError):
        certificates(b"-----BEGIN CERTIFICATE-----\n" + body + b"\n-----END CERTIFICATE-----\n")
