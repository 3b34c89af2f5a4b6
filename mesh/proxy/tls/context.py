"""OpenSSL contexts made from SDS secrets, and the question whose certificates they accept. Opens no connection."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from mesh.proxy.tls.names import Matcher
from mesh.proxy.tls.x509 import CertificateError, certificates, public_key


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain with its key, PEM; empty where there is none."""

    chain: bytes = b""
    key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to trust, and which certificates have been revoked (of every chain, or of leaves only); PEM."""

    authorities: bytes = b""
    revocations: bytes = b""
    only_leaves: bool = False


@dataclass(frozen=True, slots=True)
class Verify:
    """Which certificates are accepted, of those that the trust has signed: one SAN that a matcher of `sans` takes, and
    a certificate or a key whose SHA-256, in hexadecimal digits, is pinned. What is empty accepts all.
    """

    sans: tuple[Matcher, ...] = ()
    hashes: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()

    @property
    def pins(self) -> bool:
        return bool(self.hashes or self.keys)

    def accepts_names(self, certificate: dict[str, Any]) -> bool:
        """Of a certificate as `SSLObject.getpeercert` has it."""
        if not self.sans:
            return True
        names = [(str(kind), str(value)) for kind, value in certificate.get("subjectAltName", ())]
        return any(matcher(kind, value) for matcher in self.sans for kind, value in names)

    def accepts_pins(self, der: bytes) -> bool:
        """Of a certificate's DER."""
        if sha256(der).hexdigest() in self.hashes:
            return True
        return bool(self.keys) and sha256(public_key(der)).hexdigest() in self.keys


class Context(ssl.SSLContext):
    """An OpenSSL context that knows whose certificate it shows."""

    uri_sans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Material:
    """What a TLS object works with until a secret changes. `by_name` has the contexts of a server with several
    certificates, by the names in these, which may begin with `*.`; `context` is that of the first.
    """

    context: ssl.SSLContext
    verify: Verify
    by_name: Mapping[str, ssl.SSLContext] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """Everything but keys and trust. `client_chooses` the cipher of those that both know."""

    server: bool
    require_peer: bool
    alpn: tuple[str, ...] = ()
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: str = ""
    no_tickets: bool = False
    client_chooses: bool = False


class ContextError(ValueError):
    """Keys or parameters that OpenSSL does not take."""


def make_material(pairs: Sequence[Pair], trust: Trust, verify: Verify, options: ContextOptions) -> Material:
    """Of one pair or, for a server, of several. Raises ContextError."""
    if len(pairs) == 1:
        return Material(make_context(pairs, trust, options), verify)
    by_names: dict[tuple[str, ...], list[Pair]] = {}
    for pair in pairs:
        by_names.setdefault(_names(pair.chain), []).append(pair)
    contexts = {names: make_context(same, trust, options) for names, same in by_names.items()}
    by_name: dict[str, ssl.SSLContext] = {}
    for names, context in contexts.items():
        for name in names:
            by_name.setdefault(name, context)
    return Material(next(iter(contexts.values())), verify, by_name)


def make_context(pairs: Sequence[Pair], trust: Trust, options: ContextOptions) -> Context:
    """An OpenSSL context; several pairs are of different kinds of keys for the same names. Raises ContextError."""
    context = Context(ssl.PROTOCOL_TLS_SERVER if options.server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # identities are SANs of any kind, checked by `Verify`
    try:
        _set_options(context, options)
        if trust.authorities:
            context.load_verify_locations(cadata=trust.authorities.decode("ascii"))
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if trust.revocations:
            with _as_file(trust.revocations) as path:
                context.load_verify_locations(cafile=path)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF if trust.only_leaves else ssl.VERIFY_CRL_CHECK_CHAIN
        for pair in reversed(pairs):  # of two of a kind OpenSSL keeps the later
            if pair.key:
                # OpenSSL's Python binding reads keys from files only.
                with _as_file(pair.key + b"\n" + pair.chain) as path:
                    context.load_cert_chain(path)
                context.uri_sans = _uri_sans(pair.chain)
    except (ssl.SSLError, ValueError, UnicodeDecodeError) as error:
        raise ContextError(str(error)) from error
    if not trust.authorities:
        context.verify_mode = ssl.CERT_REQUIRED if options.server and options.require_peer else ssl.CERT_NONE
    else:
        context.verify_mode = ssl.CERT_REQUIRED if options.require_peer else ssl.CERT_OPTIONAL
    return context


def _set_options(context: ssl.SSLContext, options: ContextOptions) -> None:
    context.minimum_version = options.minimum
    context.maximum_version = options.maximum
    context.options |= ssl.OP_NO_RENEGOTIATION  # nobody would look at the other certificate that it may bring
    if options.ciphers:
        context.set_ciphers(options.ciphers)
    if options.alpn:
        context.set_alpn_protocols(list(options.alpn))
    if options.no_tickets:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    if options.client_chooses:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE


def _uri_sans(chain: bytes) -> tuple[str, ...]:
    try:
        leaf = next(iter(certificates(chain)), None)
    except CertificateError:
        return ()
    return tuple(value for kind, value in leaf.names if kind == "uri") if leaf is not None else ()


def _names(chain: bytes) -> tuple[str, ...]:
    """The DNS names of a chain's leaf, in lower case."""
    try:
        leaf = next(iter(certificates(chain)), None)
    except CertificateError:
        return ()
    return tuple(value.lower() for kind, value in leaf.names if kind == "dns") if leaf is not None else ()


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """The path of an anonymous file: what may be a key stays out of every folder."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
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
