"""Transport sockets to TLS objects, and the secrets that their contexts are made of."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2 import RawBuffer
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext

from mesh.proxy.compile.values import STRING_MATCHER, string_match, unpack
from mesh.proxy.fields import OPAQUE, Place, check
from mesh.proxy.tls_context import ContextError, Keys, Verify, make_context
from mesh.proxy.transport_socket import ClientTls, ServerTls

_T = "envoy.extensions.transport_sockets.tls.v3."
SUPPORTED = {
    "envoy.config.core.v3.TransportSocket": frozenset(("name", "typed_config")),
    _T + "DownstreamTlsContext": frozenset(
        ("common_tls_context", "require_client_certificate", "disable_stateless_session_resumption")
    ),
    _T + "UpstreamTlsContext": frozenset(("common_tls_context", "sni", "max_session_keys")),
    _T + "CommonTlsContext": frozenset(
        ("tls_params", "tls_certificates", "tls_certificate_sds_secret_configs", "validation_context",
         "validation_context_sds_secret_config", "combined_validation_context", "alpn_protocols")
    ),
    _T + "CommonTlsContext.CombinedCertificateValidationContext": frozenset(
        ("default_validation_context", "validation_context_sds_secret_config")
    ),
    _T + "TlsParameters": frozenset(
        ("tls_minimum_protocol_version", "tls_maximum_protocol_version", "cipher_suites")
    ),
    _T + "TlsCertificate": frozenset(("certificate_chain", "private_key", "watched_directory")),
    _T + "SdsSecretConfig": frozenset(("name", "sds_config")),
    _T + "CertificateValidationContext": frozenset(
        ("trusted_ca", "match_typed_subject_alt_names", "watched_directory", "trust_chain_verification")
    ),
    _T + "SubjectAltNameMatcher": frozenset(("san_type", "matcher", "oid")),
    _T + "Secret": frozenset(("name", "tls_certificate", "validation_context")),
    "envoy.config.core.v3.DataSource": frozenset(("filename", "inline_bytes", "inline_string")),
    "envoy.config.core.v3.ConfigSource": OPAQUE,
    "envoy.config.core.v3.WatchedDirectory": OPAQUE,
    **STRING_MATCHER,
}  # fmt: skip
_VERSIONS = {
    1: ssl.TLSVersion.TLSv1, 2: ssl.TLSVersion.TLSv1_1, 3: ssl.TLSVersion.TLSv1_2, 4: ssl.TLSVersion.TLSv1_3
}  # fmt: skip
_SAN_KINDS = {1: "email", 2: "DNS", 3: "URI", 4: "IP Address"}

Secrets = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """How to make the context of one TLS object from secrets, now and whenever these change."""

    owner: ServerTls | ClientTls
    secret_names: frozenset[str]
    build: Callable[[Secrets], ssl.SSLContext | None]


def server_tls(socket: Any, place: Place) -> tuple[ServerTls | None, ContextPlan | None]:
    """The downstream TLS of a filter chain; None for plaintext. Raises Refused."""
    if not socket.HasField("typed_config") or socket.typed_config.Is(RawBuffer.DESCRIPTOR):
        return None, None
    check(socket, SUPPORTED, place)
    inside = place.at("typed_config")
    config = unpack(socket.typed_config, DownstreamTlsContext, inside)
    check(config, SUPPORTED, inside)
    common = inside.at("common_tls_context")
    require = config.require_client_certificate.value
    tls = ServerTls(_verify(config.common_tls_context, common), require)
    return tls, _plan(tls, config.common_tls_context, common, server=True, require=require)


def client_tls(socket: Any, place: Place) -> tuple[ClientTls | None, ContextPlan | None]:
    """The upstream TLS of a cluster; None for plaintext. Raises Refused."""
    if not socket.HasField("typed_config") or socket.typed_config.Is(RawBuffer.DESCRIPTOR):
        return None, None
    check(socket, SUPPORTED, place)
    inside = place.at("typed_config")
    config = unpack(socket.typed_config, UpstreamTlsContext, inside)
    check(config, SUPPORTED, inside)
    common = inside.at("common_tls_context")
    tls = ClientTls(_verify(config.common_tls_context, common), config.sni)
    return tls, _plan(tls, config.common_tls_context, common, server=False, require=True)


def _verify(common: Any, place: Place) -> Verify:
    kind = common.WhichOneof("validation_context_type")
    validation = common.validation_context
    if kind == "combined_validation_context":
        validation = common.combined_validation_context.default_validation_context
    matchers = []
    for index, matcher in enumerate(validation.match_typed_subject_alt_names):
        inside = place.at(f"match_typed_subject_alt_names[{index}]")
        if matcher.san_type not in _SAN_KINDS:
            raise inside.refuse("one of EMAIL, DNS, URI, IP_ADDRESS is required", "san_type")
        matchers.append(_san_match(_SAN_KINDS[matcher.san_type], string_match(matcher.matcher, inside.at("matcher"))))
    return Verify(tuple(matchers))


def _san_match(kind: str, match: Callable[[bytes], bool]) -> Callable[[str, str], bool]:
    return lambda theirs, value: theirs == kind and match(value.encode())


def _plan(owner: ServerTls | ClientTls, common: Any, place: Place, *, server: bool, require: bool) -> ContextPlan:
    if len(common.tls_certificates) + len(common.tls_certificate_sds_secret_configs) > 1:
        raise place.refuse("only one certificate is supported", "tls_certificates")
    names = frozenset(config.name for config in (*common.tls_certificate_sds_secret_configs, *_validation_sds(common)))
    params = common.tls_params
    default_low = ssl.TLSVersion.TLSv1_2

    def build(secrets: Secrets) -> ssl.SSLContext | None:
        if not all(name in secrets for name in names):
            return None
        keys = _keys(common, secrets, place)
        if server and not keys.key:
            raise place.refuse("a server needs a certificate", "tls_certificates")
        try:
            return make_context(
                keys,
                server=server,
                require_peer=require,
                alpn=tuple(common.alpn_protocols),
                minimum=_VERSIONS.get(params.tls_minimum_protocol_version, default_low),
                maximum=_VERSIONS.get(params.tls_maximum_protocol_version, ssl.TLSVersion.TLSv1_3),
                ciphers=":".join(params.cipher_suites),
            )
        except ContextError as error:
            raise place.refuse(f"OpenSSL does not take it: {error}") from error

    return ContextPlan(owner, names, build)


def _validation_sds(common: Any) -> list[Any]:
    kind = common.WhichOneof("validation_context_type")
    if kind == "validation_context_sds_secret_config":
        return [common.validation_context_sds_secret_config]
    if kind == "combined_validation_context":
        return [common.combined_validation_context.validation_context_sds_secret_config]
    return []


def _keys(common: Any, secrets: Secrets, place: Place) -> Keys:
    certificate = None
    if common.tls_certificates:
        certificate = common.tls_certificates[0]
    elif common.tls_certificate_sds_secret_configs:
        certificate = secrets[common.tls_certificate_sds_secret_configs[0].name].tls_certificate
    validation = common.validation_context
    for config in _validation_sds(common):
        validation = secrets[config.name].validation_context
    chain = key = b""
    if certificate is not None:
        chain = _data(certificate.certificate_chain, place)
        key = _data(certificate.private_key, place)
    return Keys(chain, key, _data(validation.trusted_ca, place))


def _data(source: Any, place: Place) -> bytes:
    kind = source.WhichOneof("specifier")
    if kind == "filename":
        try:
            with open(source.filename, "rb") as file:
                return file.read(1 << 20)
        except OSError as error:
            raise place.refuse(f"cannot read {source.filename}: {os.strerror(error.errno or 0)}") from error
    return source.inline_bytes or source.inline_string.encode()


def check_secret(secret: Any, place: Place) -> None:
    """Refuse a Secret of a kind that is not supported."""
    check(secret, SUPPORTED, place)
