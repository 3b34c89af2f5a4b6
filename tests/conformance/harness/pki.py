"""Certificates for the TLS cases, made once a run: good ones and each kind of bad one."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

IDENTITY = "spiffe://cluster.local/ns/default/sa/"
DAY = timedelta(days=1)
SANS = {
    "dns": x509.DNSName("B.Test"),
    "wildcard": x509.DNSName("*.a.test"),
    "part": x509.DNSName("f*.a.test"),
    "star": x509.DNSName("*"),
    "dns-uri": x509.DNSName(IDENTITY + "client"),
    "ipv4": x509.IPAddress(ip_address("10.1.2.3")),
    "ipv6": x509.IPAddress(ip_address("2001:db8::1")),
    "email": x509.RFC822Name("a@b.test"),
    "upper": x509.UniformResourceIdentifier("SPIFFE://cluster.local/ns/default/sa/client"),
}
TLS_TYPES = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."


class Authority:
    """A root that signs leaf certificates into a folder as `<name>.crt` and `<name>.key`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        ca = x509.BasicConstraints(ca=True, path_length=None)
        builder = self._builder(self._name, self._key.public_key(), -DAY, DAY).add_extension(ca, critical=True)
        self._write(f"{name}.crt", builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, uri: str, start: timedelta = -DAY, end: timedelta = DAY, *dns: str) -> int:
        """The serial number of a leaf with one URI SAN, and DNS SANs, valid from now plus `start` to now plus `end`."""
        return self.issue_to(name, [x509.UniformResourceIdentifier(uri), *map(x509.DNSName, dns)], start, end)

    def issue_to(
        self,
        name: str,
        sans: Sequence[x509.GeneralName],
        start: timedelta = -DAY,
        end: timedelta = DAY,
        *usages: x509.ObjectIdentifier,
    ) -> int:
        """The same with SANs of any kind, and for certain extended key usages alone."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key.public_key(), start, end)
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        leaf = builder.sign(self._key, hashes.SHA256())
        self._write(f"{name}.crt", leaf.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        self._write(f"{name}.key", key.private_bytes(serialization.Encoding.PEM, *form))
        return leaf.serial_number

    def revoke(self, name: str, serial: int) -> None:
        """A list of one revoked certificate, as `<name>.crl`."""
        now = datetime.now(UTC)
        revoked = x509.RevokedCertificateBuilder(serial, now - DAY).build()
        builder = x509.CertificateRevocationListBuilder(self._name, now - DAY, now + DAY).add_revoked_certificate(
            revoked
        )
        self._write(f"{name}.crl", builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, start: timedelta, end: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now + start,
            not_valid_after=now + end,
        )

    def _write(self, name: str, pem: bytes) -> None:
        path = self._folder / name
        path.touch(mode=0o600)
        path.write_bytes(pem)


def make_certificates(folder: Path) -> Path:
    """Fill a folder with every certificate that the TLS cases name."""
    good, other = Authority(folder, "ca"), Authority(folder, "other-ca")
    for name in ("server", "client"):
        good.issue(name, IDENTITY + name)
    good.revoke("revoked", good.issue("revoked", IDENTITY + "client"))
    good.issue("names-a", IDENTITY + "server", -DAY, DAY, "a.test", "*.a.test")
    good.issue("names-b", IDENTITY + "server", -DAY, DAY, "b.test")
    good.issue("expired", IDENTITY + "client", -2 * DAY, -DAY)
    good.issue("expired-server", IDENTITY + "server", -2 * DAY, -DAY)
    good.issue("outsider", "spiffe://elsewhere.test/ns/default/sa/client")
    good.issue("future", IDENTITY + "client", DAY, 2 * DAY)
    client = x509.UniformResourceIdentifier(IDENTITY + "client")
    for usage in (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH):
        good.issue_to(f"for-{usage._name}", [client], -DAY, DAY, usage)
    for name, san in SANS.items():
        good.issue_to(f"san-{name}", [san])
    good.issue_to("san-many", [*SANS.values(), client])
    good.issue_to("san-none", [])
    other.issue("stranger", IDENTITY + "client")
    other.issue("stranger-server", IDENTITY + "server")
    return folder


def write_secret(certificates: Path, secrets: Path, name: str, what: str | Mapping[str, str]) -> None:
    """The secret `name` as a file for SDS, replaced by rename: the pair or the authority `what`, or one put together of
    `{chain, key}` or `{ca, crl}`, names of files or after `text:` what stands there, or `{file}`, all that it says.
    """
    if isinstance(what, str):
        what = {"chain": what, "key": what} if (certificates / f"{what}.key").exists() else {"ca": what}
    document = what.get("file")
    if document is None:
        secret = {"@type": TLS_TYPES + "Secret", "name": name, **_secret(certificates, what)}
        document = json.dumps({"resources": [secret]})
    secrets.mkdir(exist_ok=True)
    fresh = secrets / f".{name}.fresh"
    fresh.touch(mode=0o600)
    fresh.write_text(document)
    fresh.rename(secrets / f"{name}.json")


def _secret(certificates: Path, parts: Mapping[str, str]) -> dict[str, Any]:
    suffixes = {"chain": "crt", "key": "key", "ca": "crt", "crl": "crl"}
    said = {
        part: {"inline_string": value[5:] if value[:5] == "text:" else (certificates / f"{value}.{suffix}").read_text()}
        for part, suffix in suffixes.items()
        if (value := parts.get(part)) is not None
    }
    if "ca" not in said:
        return {"tls_certificate": {"certificate_chain": said["chain"], "private_key": said["key"]}}
    crl = {"crl": said["crl"]} if "crl" in said else {}
    return {"validation_context": {"trusted_ca": said["ca"], **crl}}


def secret_context(certificates: Path, secrets: Path, sds: Mapping[str, str], tls: dict[str, Any]) -> dict[str, Any]:
    """A CommonTlsContext from secret files, `{pair: cert, trust: ca}` by the names the secrets shall have."""

    def reference(name: str) -> dict[str, Any]:
        source = {"path": f"secrets/{name}.json", "watched_directory": {"path": "secrets"}}
        return {"name": name, "sds_config": {"path_config_source": source, "resource_api_version": "V3"}}

    (pair, cert), (trust, authority) = sds.items()
    write_secret(certificates, secrets, pair, cert)
    write_secret(certificates, secrets, trust, authority)
    return {
        "tls_certificate_sds_secret_configs": [reference(pair)],
        "combined_validation_context": {
            "default_validation_context": san_matchers(tls),
            "validation_context_sds_secret_config": reference(trust),
        },
    }


def san_matchers(tls: dict[str, Any]) -> dict[str, Any]:
    """The part of a validation context that names the peer, taken out of `tls`."""
    if names := tls.pop("names", None):
        return {"match_typed_subject_alt_names": names}
    for key, kind in (("san", "exact"), ("san_prefix", "prefix")):
        if value := tls.pop(key, None):
            return {"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {kind: value}}]}
    return {}


def tls_context(folder: Path, secrets: Path, tls: Mapping[str, Any], *, upstream: bool) -> dict[str, Any]:
    """A transport socket from `{cert, trust, san | san_prefix, alpn, sni}`, or `{sds, ...}` for cert and trust."""
    tls = dict(tls)
    common: dict[str, Any] = {}
    sds = tls.pop("sds", None)
    if sds:
        common = secret_context(folder, secrets, sds, tls)
    if certs := tls.pop("cert", None):
        files = [{kind: {"filename": str(folder / f"{cert}.{kind}")} for kind in ("crt", "key")}
                 for cert in ([certs] if isinstance(certs, str) else certs)]  # fmt: skip
        common["tls_certificates"] = [{"certificate_chain": each["crt"], "private_key": each["key"]} for each in files]
    if trust := tls.pop("trust", None):
        common["validation_context"] = {"trusted_ca": {"filename": str(folder / f"{trust}.crt")}, **san_matchers(tls)}
        if crl := tls.pop("crl", None):
            common["validation_context"] |= {"crl": {"filename": str(folder / f"{crl}.crl")}}
        if pinned := tls.pop("pinned", None):
            common["validation_context"] |= {
                "verify_certificate_hash": [pin(folder, each, "hash") for each in pinned.get("hash", [])],
                "verify_certificate_spki": [pin(folder, each, "spki") for each in pinned.get("spki", [])],
            }
    if params := tls.pop("params", None):
        common["tls_params"] = params
    if alpn := tls.pop("alpn", None):
        common["alpn_protocols"] = alpn
    fields: dict[str, Any] = {"common_tls_context": common, **tls}
    if not upstream:
        fields.setdefault("require_client_certificate", trust is not None or sds is not None)
    kind = "UpstreamTlsContext" if upstream else "DownstreamTlsContext"
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": TLS_TYPES + kind, **fields}}


def pin(folder: Path, cert: str, kind: str) -> str:
    """The SHA-256 of a certificate in hexadecimal digits, or that of its public key in base64."""
    leaf = x509.load_pem_x509_certificate((folder / f"{cert}.crt").read_bytes())
    if kind == "hash":
        return leaf.fingerprint(hashes.SHA256()).hex()
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(sha256(leaf.public_key().public_bytes(*form)).digest()).decode()


class Resuming(ssl.SSLContext):
    """A client's context: each connection resumes the session of the one before, as far as the server lets it."""

    _latest: ssl.SSLObject | None = None

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """As asyncio calls it."""
        session = self._latest.session if self._latest is not None else None
        self._latest = super().wrap_bio(*arguments, **options, session=session)
        return self._latest


def ssl_context(folder: Path, tls: Mapping[str, Any], *, server: bool) -> ssl.SSLContext:
    """The same for the harness's own end: `{cert, trust, alpn, max_version, ciphers, resume}`."""
    kind = Resuming if "resume" in tls else ssl.SSLContext
    context = kind(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if cert := tls.get("cert"):
        context.load_cert_chain(folder / f"{cert}.crt", folder / f"{cert}.key")
    if trust := tls.get("trust"):
        context.load_verify_locations(folder / f"{trust}.crt")
        context.verify_mode = ssl.CERT_REQUIRED
    if alpn := tls.get("alpn"):
        context.set_alpn_protocols(alpn)
    if tls.get("max_version") == "1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if ciphers := tls.get("ciphers"):
        context.set_ciphers(ciphers)
    return context
