"""What the root signs, judged by others: openssl's chain check and Python's TLS handshake."""

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.ca.authority import CLOCK_SKEW, DEFAULT_TTL, MAX_TTL, Authority, Validity
from mesh.ca.csr import MAX_CSR_BYTES
from mesh.ca.errors import CsrError, ValidityError
from mesh.ca.folder import ROOT_CERT, open_ca

URI = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
PEM = serialization.Encoding.PEM


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return open_ca(tmp_path / "ca").certificates


def valid(ttl: timedelta = DEFAULT_TTL) -> Validity:
    return Validity.starting(datetime.now(UTC).replace(microsecond=0), ttl)


def pkcs8(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """A greedy request: a subject, another's identity, and the right to sign."""
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://evil/x")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(PEM)


def test_a_workload_certificate_is_an_svid_and_takes_only_the_key(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    validity = valid()
    signed = authority.sign_workload(request(key), URI, validity)
    (leaf,) = (x509.load_pem_x509_certificate(pem.encode()) for pem in signed.chain)
    assert leaf.public_key() == key.public_key()
    assert list(leaf.subject) == []
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert list(names.value) == [x509.UniformResourceIdentifier(URI)]
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not usage.value.crl_sign
    assert set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (validity.not_before, validity.not_after)
    assert signed.not_after == validity.not_after


def test_openssl_accepts_the_chain_for_both_purposes_and_not_after_its_time(
    authority: Authority, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = tmp_path / "leaf.pem"
    validity = valid()
    leaf.write_text("".join(authority.sign_workload(request(key), URI, validity).chain))

    def verify(purpose: str, at: datetime) -> subprocess.CompletedProcess[str]:
        command = ["openssl", "verify", "-x509_strict", "-attime", f"{at.timestamp():.0f}"]
        command += ["-CAfile", str(tmp_path / "ca" / ROOT_CERT), "-purpose", purpose, str(leaf)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    for purpose in ("sslserver", "sslclient"):
        accepted = verify(purpose, validity.not_before + CLOCK_SKEW)
        assert accepted.returncode == 0, accepted.stderr
    late = verify("sslserver", validity.not_after + timedelta(seconds=2))
    assert late.returncode != 0
    assert "has expired" in late.stderr


def contexts(authority: Authority, tmp_path: Path, validity: Validity) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server_credentials = authority.issue_server("127.77.0.1", datetime.now(UTC))
    (tmp_path / "server.pem").write_bytes(server_credentials.key + server_credentials.chain)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.root_pem)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(tmp_path / "server.pem")

    key = ec.generate_private_key(ec.SECP256R1())
    chain = "".join(authority.sign_workload(request(key), URI, validity).chain)
    (tmp_path / "client.pem").write_bytes(pkcs8(key) + chain.encode())
    client = ssl.create_default_context(cadata=authority.root_pem)
    client.load_cert_chain(tmp_path / "client.pem")
    return server, client


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, hostname: str) -> ssl.SSLObject:
    """Both ends of a TLS handshake in memory; the server's end, which has seen the client's certificate."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up, server_hostname=hostname), server.wrap_bio(up, down, server_side=True)]
    pending = list(ends)
    for _ in range(20):
        for end in list(pending):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            pending.remove(end)
        if not pending:
            return ends[1]
    raise AssertionError("no end to the handshake")


def test_python_tls_accepts_both_ends(authority: Authority, tmp_path: Path) -> None:
    server = handshake(*contexts(authority, tmp_path, valid()), "127.77.0.1")
    peer = server.getpeercert()
    assert peer is not None
    assert peer["subjectAltName"] == (("URI", URI),)


def test_the_server_certificate_is_for_its_address_alone(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        handshake(*contexts(authority, tmp_path, valid()), "127.77.0.2")


def test_an_expired_workload_is_refused_in_the_handshake(authority: Authority, tmp_path: Path) -> None:
    over = datetime.now(UTC) - timedelta(minutes=5)
    with pytest.raises(ssl.SSLError, match="certificate has expired"):
        handshake(*contexts(authority, tmp_path, Validity.between(over - timedelta(hours=1), over)), "127.77.0.1")


def test_another_mesh_is_refused_in_the_handshake(authority: Authority, tmp_path: Path) -> None:
    server, _ = contexts(authority, tmp_path, valid())
    other = open_ca(tmp_path / "other").certificates
    (tmp_path / "o").mkdir()
    _, stranger = contexts(other, tmp_path / "o", valid())
    stranger.load_verify_locations(cadata=authority.root_pem)
    with pytest.raises(ssl.SSLError, match=r"self.signed certificate|unable to get local issuer|signature failure"):
        handshake(server, stranger, "127.77.0.1")


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1), MAX_TTL + timedelta(seconds=1)])
def test_lifetimes_are_bounded(ttl: timedelta) -> None:
    with pytest.raises(ValidityError):
        valid(ttl)


def test_a_span_of_a_drill_is_bounded_too() -> None:
    now = datetime.now(UTC)
    for end in (now, now - timedelta(seconds=1), now + timedelta(days=400)):
        with pytest.raises(ValidityError):
            Validity.between(now, end)


def test_a_larger_elliptic_or_rsa_key_is_signed_for(authority: Authority) -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        leaf = x509.load_pem_x509_certificate(authority.sign_workload(request(key), URI, valid()).chain[0].encode())
        assert leaf.public_key() == key.public_key()


def unsuitable() -> dict[str, bytes]:
    def sign(key: dsa.DSAPrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return builder.sign(key, hashes.SHA256()).public_bytes(PEM)

    edwards = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    good = sign(ec.generate_private_key(ec.SECP256R1()))
    # The signature is at the end of the DER; one flipped bit there leaves the structure whole.
    der = bytearray(x509.load_pem_x509_csr(good).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return {
        "small RSA": sign(rsa.generate_private_key(65537, 1024)),
        "other curve": sign(ec.generate_private_key(ec.SECP521R1())),
        "DSA": sign(dsa.generate_private_key(2048)),
        "Ed25519": edwards.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(PEM),
        "not proven": ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE-", "CERTIFICATE REQUEST-").encode(),
        "garbage": b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        "no PEM": b"\x00\xff",
        "empty": b"",
        "too large": good + b"\n" * MAX_CSR_BYTES,
    }


def test_unsuitable_requests_are_refused(authority: Authority) -> None:
    refusals = {}
    for name, csr in unsuitable().items():
        with pytest.raises(CsrError) as refused:
            authority.sign_workload(csr, URI, valid())
        refusals[name] = str(refused.value)
    assert refusals["too large"] == f"the request is larger than {MAX_CSR_BYTES} bytes"
    assert refusals["not proven"] == "the request is not signed by the key that it names"
    assert {refusals[name] for name in ("small RSA", "other curve", "DSA", "Ed25519")} == {
        "the key must be EC P-256, EC P-384 or RSA of 2048 to 4096 bits"
    }
    assert {refusals[name] for name in ("garbage", "no PEM", "empty")} == {
        "the request is not a PKCS #10 request in PEM form"
    }


def test_nothing_prints_a_key(authority: Authority) -> None:
    credentials = authority.issue_server("127.77.0.1", datetime.now(UTC))
    assert "BEGIN" not in repr(credentials)
