"""Transport sockets to TLS objects, and the secrets that their contexts are made of."""

from __future__ import annotations

import base64
import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2 import RawBuffer
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext

from mesh.proxy.compile.values import STRING_MATCHER, string_match, unpack, value_or
from mesh.proxy.fields import OPAQUE, Place, check
from mesh.proxy.tls import names
from mesh.proxy.tls.context import ContextError, ContextOptions, Material, Pair, Trust, Verify, make_material
from mesh.proxy.tls.transport_socket import ClientTls, ServerTls

_T = "envoy.extensions.transport_sockets.tls.v3."
SUPPORTED = {
    "envoy.config.core.v3.TransportSocket": frozenset(("name", "typed_config")),
    _T + "DownstreamTlsContext": frozenset(
        ("common_tls_context", "require_client_certificate", "disable_stateless_session_resumption",
         "ocsp_staple_policy", "prefer_client_ciphers")
    ),
    _T + "UpstreamTlsContext": frozenset(
        ("common_tls_context", "sni", "max_session_keys", "auto_host_sni", "auto_sni_san_validation")
    ),
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
    _T + "TlsCertificate": frozenset(("certificate_chain", "private_key")),
    _T + "SdsSecretConfig": frozenset(("name", "sds_config")),
    _T + "CertificateValidationContext": frozenset(
        ("trusted_ca", "match_typed_subject_alt_names", "verify_certificate_hash",
         "verify_certificate_spki", "crl", "only_verify_leaf_cert_crl")
    ),
    _T + "SubjectAltNameMatcher": frozenset(("san_type", "matcher")),
    _T + "Secret": frozenset(("name", "tls_certificate", "validation_context")),
    "envoy.config.core.v3.DataSource": frozenset(("filename", "inline_bytes", "inline_string")),
    "envoy.config.core.v3.ConfigSource": OPAQUE,
    **STRING_MATCHER,
}  # fmt: skip
_VERSIONS = {
    1: ssl.TLSVersion.TLSv1, 2: ssl.TLSVersion.TLSv1_1, 3: ssl.TLSVersion.TLSv1_2, 4: ssl.TLSVersion.TLSv1_3
}  # fmt: skip
_SAN_KINDS = {1: "email", 2: names.DNS, 3: "URI", 4: names.IP}
_HASH = re.compile(r"[0-9a-f]{64}")

Secrets = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """How to make what one TLS object works with from secrets, now and whenever these change; None while any is not
    there.
    """

    owner: ServerTls | ClientTls
    secret_names: frozenset[str]
    build: Callable[[Secrets], Material | None]


def server_tls(socket: Any, place: Place) -> tuple[ServerTls | None, ContextPlan | None]:
    """The downstream TLS of a filter chain; None for plaintext. Raises Refused."""
    if not socket.HasField("typed_config") or socket.typed_config.Is(RawBuffer.DESCRIPTOR):
        return None, None
    check(socket, SUPPORTED, place)
    inside = place.at("typed_config")
    config = unpack(socket.typed_config, DownstreamTlsContext, inside)
    check(config, SUPPORTED, inside)
    common = inside.at("common_tls_context")
    if config.ocsp_staple_policy:
        raise inside.refuse("only LENIENT_STAPLING is supported by this sidecar", "ocsp_staple_policy")
    require = config.require_client_certificate.value
    many = len(config.common_tls_context.tls_certificates) + len(
        config.common_tls_context.tls_certificate_sds_secret_configs
    )
    tls = ServerTls(require, has_many=many > 1)
    options = ContextOptions(
        server=True,
        require_peer=require,
        no_tickets=config.disable_stateless_session_resumption,
        client_chooses=config.prefer_client_ciphers,
    )
    return tls, _plan(tls, config.common_tls_context, common, options)


def client_tls(socket: Any, place: Place, offered: tuple[str, ...] = ()) -> tuple[ClientTls | None, ContextPlan | None]:
    """The upstream TLS of a cluster, which offers `offered` by ALPN unless it says what; None for plaintext. Raises
    Refused.
    """
    if not socket.HasField("typed_config") or socket.typed_config.Is(RawBuffer.DESCRIPTOR):
        return None, None
    check(socket, SUPPORTED, place)
    inside = place.at("typed_config")
    config = unpack(socket.typed_config, UpstreamTlsContext, inside)
    check(config, SUPPORTED, inside)
    common = inside.at("common_tls_context")
    tls = ClientTls(
        config.sni,
        names_host=config.auto_host_sni,
        checks_sni=config.auto_sni_san_validation,
        most_sessions=value_or(config, "max_session_keys", 1),
    )
    options = ContextOptions(server=False, require_peer=True, alpn=offered)
    return tls, _plan(tls, config.common_tls_context, common, options)


def _verify(validation: Any, place: Place) -> Verify:
    matchers = []
    for index, matcher in enumerate(validation.match_typed_subject_alt_names):
        inside = place.at(f"match_typed_subject_alt_names[{index}]")
        if matcher.san_type not in _SAN_KINDS:
            raise inside.refuse("one of EMAIL, DNS, URI, IP_ADDRESS is required", "san_type")
        kind, match = _SAN_KINDS[matcher.san_type], string_match(matcher.matcher, inside.at("matcher"))
        is_host = kind == names.DNS and matcher.matcher.HasField("exact")
        matchers.append(names.of_host(matcher.matcher.exact) if is_host else names.of_kind(kind, match))
    hashes = frozenset(each.replace(":", "").lower() for each in validation.verify_certificate_hash)
    if any(_HASH.fullmatch(each) is None for each in hashes):
        raise place.refuse("not a SHA-256 in hexadecimal digits", "verify_certificate_hash")
    try:
        keys = frozenset(base64.b64decode(each, validate=True).hex() for each in validation.verify_certificate_spki)
    except ValueError as error:
        raise place.refuse(f"not base64: {error}", "verify_certificate_spki") from error
    return Verify(tuple(matchers), hashes, keys)


def _plan(owner: ServerTls | ClientTls, common: Any, place: Place, options: ContextOptions) -> ContextPlan:
    many = len(common.tls_certificates) + len(common.tls_certificate_sds_secret_configs)
    if many > 1 and not options.server:
        raise place.refuse("only one certificate is supported for a client", "tls_certificates")
    wanted = frozenset(config.name for config in (*common.tls_certificate_sds_secret_configs, *_validation_sds(common)))
    params = common.tls_params
    options = replace(
        options,
        alpn=tuple(common.alpn_protocols) or options.alpn,
        minimum=_VERSIONS.get(params.tls_minimum_protocol_version, ssl.TLSVersion.TLSv1_2),
        maximum=_VERSIONS.get(params.tls_maximum_protocol_version, ssl.TLSVersion.TLSv1_3),
        ciphers=":".join(params.cipher_suites),
    )

    def build(secrets: Secrets) -> Material | None:
        if not all(name in secrets for name in wanted):
            return None
        _check_kinds(common, secrets, place)
        pairs = _pairs(common, secrets, place)
        if options.server and not all(pair.key for pair in pairs):
            raise place.refuse("a server needs a certificate", "tls_certificates")
        validation = _validation(common, secrets)
        inside = place.at("validation_context")
        verify = _verify(validation, inside)
        if validation.HasField("trusted_ca") and not _data(validation.trusted_ca, place):
            raise inside.refuse("must not be empty: nobody would be verified", "trusted_ca")
        trust = Trust(
            _data(validation.trusted_ca, place), _data(validation.crl, place), validation.only_verify_leaf_cert_crl
        )
        if options.server and verify.pins and not trust.authorities:
            raise inside.refuse("only with a trusted_ca is it supported by this sidecar", "verify_certificate_hash")
        try:
            # As in Envoy, whose name or key is wanted must show one.
            asking = replace(options, require_peer=True) if verify.sans or verify.pins else options
            return make_material(pairs, trust, verify, asking)
        except ContextError as error:
            raise place.refuse(f"OpenSSL does not take it: {error}") from error

    return ContextPlan(owner, wanted, build)


def _validation_sds(common: Any) -> list[Any]:
    kind = common.WhichOneof("validation_context_type")
    if kind == "validation_context_sds_secret_config":
        return [common.validation_context_sds_secret_config]
    if kind == "combined_validation_context":
        return [common.combined_validation_context.validation_context_sds_secret_config]
    return []


def _check_kinds(common: Any, secrets: Secrets, place: Place) -> None:
    """Each secret must be what it is asked for: Envoy takes one of another kind for an empty one, and verifies
    nobody.
    """
    for kind, configs in (
        ("tls_certificate", common.tls_certificate_sds_secret_configs),
        ("validation_context", _validation_sds(common)),
    ):
        for config in configs:
            if secrets[config.name].WhichOneof("type") != kind:
                raise place.refuse(f"secret {config.name} is no {kind}")


def _pairs(common: Any, secrets: Secrets, place: Place) -> list[Pair]:
    """The certificates with their keys; one empty pair if there is none."""
    certificates = [
        *common.tls_certificates,
        *(secrets[config.name].tls_certificate for config in common.tls_certificate_sds_secret_configs),
    ]
    pairs = [Pair(_data(each.certificate_chain, place), _data(each.private_key, place)) for each in certificates]
    return pairs or [Pair()]


def _validation(common: Any, secrets: Secrets) -> Any:
    """What is said of the peer's certificate: a secret's word is laid over the default's."""
    merged = CertificateValidationContext()
    if common.WhichOneof("validation_context_type") == "combined_validation_context":
        merged.CopyFrom(common.combined_validation_context.default_validation_context)
    else:
        merged.CopyFrom(common.validation_context)
    for config in _validation_sds(common):
        merged.MergeFrom(secrets[config.name].validation_context)
    return merged


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
