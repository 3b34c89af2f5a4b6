"""OpenSSL contexts made from SDS secrets, and the question whose certificates they accept. Opens no connection."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from mesh.proxy.x509 import CertificateError, certificates


@dataclass(frozen=True, slots=True)
class Keys:
    """A certificate chain with its key, and what to trust; PEM. Empty where there is none."""

    chain: bytes = b""
    key: bytes = field(default=b"", repr=False)
    trust: bytes = b""


@dataclass(frozen=True, slots=True)
class Verify:
    """Which certificates are accepted: signed by the trust, and one SAN that `accepts`. None accepts every SAN."""

    sans: tuple[Callable[[str, str], bool], ...] = ()

    def accepts(self, certificate: dict[str, Any]) -> bool:
        if not self.sans:
            return True
        names = [(str(kind), str(value)) for kind, value in certificate.get("subjectAltName", ())]
        return any(matcher(kind, value) for matcher in self.sans for kind, value in names)


class Context(ssl.SSLContext):
    """An OpenSSL context that knows whose certificate it shows."""

    uri_sans: tuple[str, ...] = ()


class ContextError(ValueError):
    """Keys or parameters that OpenSSL does not take."""


def make_context(
    keys: Keys,
    *,
    server: bool,
    require_peer: bool,
    alpn: tuple[str, ...] = (),
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ciphers: str = "",
) -> Context:
    """An OpenSSL context of these keys. Raises ContextError."""
    context = Context(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # identities are SANs of any kind, checked by `Verify`
    try:
        context.minimum_version = minimum
        context.maximum_version = maximum
        if ciphers:
            context.set_ciphers(ciphers)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if keys.trust:
            context.load_verify_locations(cadata=keys.trust.decode("ascii"))
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if keys.key:
            _load_pair(context, keys)
            context.uri_sans = _uri_sans(keys.chain)
    except (ssl.SSLError, ValueError, UnicodeDecodeError) as error:
        raise ContextError(str(error)) from error
    if server:
        context.verify_mode = ssl.CERT_REQUIRED if require_peer else ssl.CERT_OPTIONAL if keys.trust else ssl.CERT_NONE
    else:
        context.verify_mode = ssl.CERT_REQUIRED if keys.trust else ssl.CERT_NONE
    return context


def _uri_sans(chain: bytes) -> tuple[str, ...]:
    try:
        leaf = next(iter(certificates(chain)), None)
    except CertificateError:
        return ()
    return tuple(value for kind, value in leaf.names if kind == "uri") if leaf is not None else ()


def _load_pair(context: ssl.SSLContext, keys: Keys) -> None:
    # OpenSSL's Python binding reads keys from files only; an anonymous one keeps the key out of every folder.
    descriptor = os.memfd_create("keys", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, keys.key + b"\n" + keys.chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


_SHORT = {
    "commonName": "CN", "countryName": "C", "stateOrProvinceName": "ST", "localityName": "L", "organizationName": "O",
    "organizationalUnitName": "OU", "streetAddress": "STREET", "domainComponent": "DC", "userId": "UID",
}  # fmt: skip
_SPECIAL = frozenset(',+"\\<>;')


def name_text(name: Iterable[Iterable[tuple[str, str]]]) -> str:
    """A distinguished name, as `SSLObject.getpeercert` has it, in the form of RFC 2253: the last part first."""
    parts = ("+".join(f"{_SHORT.get(key, key)}={_escaped(value)}" for key, value in part) for part in name)
    return ",".join(reversed(list(parts)))


def _escaped(value: str) -> str:
    text = "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in value)
    return f"\\{text}" if text.startswith(("#", " ")) else text
