"""TLS contexts: mutual TLS of the mesh by SDS files, and TLS origination by a DestinationRule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from envoy.config.core.v3.base_pb2 import DataSource, TransportSocket, WatchedDirectory
from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiVersion, ConfigSource, PathConfigSource
from envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2 import RawBuffer
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    SubjectAltNameMatcher,
    TlsCertificate,
    TlsParameters,
)
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig, Secret
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import (
    CommonTlsContext,
    DownstreamTlsContext,
    UpstreamTlsContext,
)
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.wrappers_pb2 import BoolValue

from mesh.api.destination_rule import ClientTLSMode, ClientTLSSettings
from mesh.api.gateway import ServerTLSMode, ServerTLSSettings, TLSCertificate, TLSProtocol
from mesh.snapshot.credentials import TRUST_SUFFIX, KeyPair
from mesh.xds.compile.messages import packed

MESH_ALPN: Final = ("istio-peer-exchange", "istio")
_CLIENT_ALPN: Final = ("istio",)
_SERVER_HTTP_ALPN: Final = ("h2", "http/1.1")
_SECRETS: Final = "secrets"
_KEYS: Final = "kubernetes://"
_SYSTEM_ROOTS: Final = "/etc/ssl/certs/ca-certificates.crt"
_TLS: Final = "envoy.transport_sockets.tls"
_VERSIONS: Final = {
    TLSProtocol.TLSV1_0: TlsParameters.TLSv1_0,
    TLSProtocol.TLSV1_1: TlsParameters.TLSv1_1,
    TLSProtocol.TLSV1_2: TlsParameters.TLSv1_2,
    TLSProtocol.TLSV1_3: TlsParameters.TLSv1_3,
}


def spiffe(trust_domain: str, namespace: str, account: str) -> str:
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}"


def mesh_client(sni: str, identities: Iterable[str], *, http2: bool = False) -> TransportSocket:
    """Mutual TLS to a workload that must be one of `identities`; none given means any of the mesh's authority.

    `istio` tells the server that it is the mesh who calls, before anything is negotiated.
    """
    matchers = [_san(StringMatcher(exact=identity)) for identity in identities]
    common = _mesh_common(matchers)
    common.alpn_protocols.extend((*_CLIENT_ALPN, "h2") if http2 else _CLIENT_ALPN)
    return _socket(UpstreamTlsContext(common_tls_context=common, sni=sni))


def mesh_server(trust_domain: str, *, http: bool) -> TransportSocket:
    """Mutual TLS from any workload of the mesh.

    An Envoy that negotiated anything but `h2` reads HTTP/1, and looks at the first bytes where nothing was. So servers
    of HTTP have none of the mesh's own names to offer.
    """
    common = _mesh_common([_san(StringMatcher(prefix=f"spiffe://{trust_domain}/"))])
    common.alpn_protocols.extend(_SERVER_HTTP_ALPN if http else MESH_ALPN)
    return _socket(DownstreamTlsContext(common_tls_context=common, require_client_certificate=BoolValue(value=True)))


def gateway_server(settings: ServerTLSSettings, trust_domain: str, *, http: bool) -> TransportSocket:
    """A Gateway's server, with certificates that its own proxy alone is sent, or that are files there."""
    if settings.mode is ServerTLSMode.ISTIO_MUTUAL:
        return mesh_server(trust_domain, http=http)
    common = CommonTlsContext(
        tls_params=TlsParameters(
            tls_minimum_protocol_version=_VERSIONS.get(settings.min_protocol_version, TlsParameters.TLSv1_2),
            tls_maximum_protocol_version=_VERSIONS.get(settings.max_protocol_version, TlsParameters.TLS_AUTO),
            cipher_suites=settings.cipher_suites,
        ),
        alpn_protocols=_SERVER_HTTP_ALPN if http else (),
        tls_certificate_sds_secret_configs=[_sent_secret(_KEYS + name) for name in key_names(settings)],
    )
    for own in _files(settings):
        chain, key = DataSource(filename=own.server_certificate), DataSource(filename=own.private_key)
        common.tls_certificates.append(TlsCertificate(certificate_chain=chain, private_key=key))
    if asks_clients(settings):
        _add_trust(common, settings)
    required = settings.mode is ServerTLSMode.MUTUAL
    return _socket(
        DownstreamTlsContext(common_tls_context=common, require_client_certificate=BoolValue(value=required))
    )


def asks_clients(settings: ServerTLSSettings) -> bool:
    """Whether clients are asked for a certificate."""
    return settings.mode in (ServerTLSMode.MUTUAL, ServerTLSMode.OPTIONAL_MUTUAL)


def key_names(settings: ServerTLSSettings) -> Sequence[str]:
    """The credentials of a server; none where it has files."""
    return settings.credential_names or ((settings.credential_name,) if settings.credential_name else ())


def trust_name(settings: ServerTLSSettings) -> str:
    """The credential that says which clients are trusted; empty where a file does."""
    return settings.ca_cert_credential_name or next(iter(key_names(settings)), "")


def key_secret(name: str, pair: KeyPair) -> Secret:
    chain, key = DataSource(inline_bytes=pair.chain), DataSource(inline_bytes=pair.key)
    return Secret(name=_KEYS + name, tls_certificate=TlsCertificate(certificate_chain=chain, private_key=key))


def trust_secret(name: str, authorities: bytes) -> Secret:
    context = CertificateValidationContext(trusted_ca=DataSource(inline_bytes=authorities))
    return Secret(name=f"{_KEYS}{name}{TRUST_SUFFIX}", validation_context=context)


def plaintext() -> TransportSocket:
    return TransportSocket(name="envoy.transport_sockets.raw_buffer", typed_config=packed(RawBuffer()))


def originated(settings: ClientTLSSettings, alpn: Sequence[str]) -> TransportSocket:
    """SIMPLE or MUTUAL: certificates from the named files, trust from `caCertificates` or the system's roots.

    `insecureSkipVerify` trusts whoever answers.
    """
    matchers = [_san(StringMatcher(exact=name), dns=True) for name in settings.subject_alt_names]
    validation = CertificateValidationContext(
        trusted_ca=DataSource(filename=settings.ca_certificates or _SYSTEM_ROOTS),
        match_typed_subject_alt_names=matchers,
    )
    if settings.ca_crl:
        validation.crl.filename = settings.ca_crl
    trust = None if settings.insecure_skip_verify else validation
    common = CommonTlsContext(validation_context=trust, alpn_protocols=alpn)
    if settings.mode is ClientTLSMode.MUTUAL:
        common.tls_certificates.append(
            TlsCertificate(
                certificate_chain=DataSource(filename=settings.client_certificate),
                private_key=DataSource(filename=settings.private_key),
            )
        )
    return _socket(UpstreamTlsContext(common_tls_context=common, sni=settings.sni))


def _mesh_common(matchers: Iterable[SubjectAltNameMatcher]) -> CommonTlsContext:
    return CommonTlsContext(
        tls_params=TlsParameters(tls_minimum_protocol_version=TlsParameters.TLSv1_2),
        tls_certificate_sds_secret_configs=[_secret("default")],
        combined_validation_context=CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=CertificateValidationContext(match_typed_subject_alt_names=matchers),
            validation_context_sds_secret_config=_secret("ROOTCA"),
        ),
    )


def _files(settings: ServerTLSSettings) -> Sequence[TLSCertificate]:
    own = TLSCertificate(server_certificate=settings.server_certificate, private_key=settings.private_key)
    return settings.tls_certificates or ((own,) if own.server_certificate else ())


def _add_trust(common: CommonTlsContext, settings: ServerTLSSettings) -> None:
    """What clients' certificates have to be; a list of revoked ones is a file in any case."""
    context = CertificateValidationContext(
        match_typed_subject_alt_names=[_san(StringMatcher(exact=own), dns=True) for own in settings.subject_alt_names],
        verify_certificate_spki=settings.verify_certificate_spki,
        verify_certificate_hash=settings.verify_certificate_hash,
    )
    if settings.ca_crl:
        context.crl.filename = settings.ca_crl
    if name := trust_name(settings):
        combined = common.combined_validation_context
        combined.default_validation_context.CopyFrom(context)
        combined.validation_context_sds_secret_config.CopyFrom(_sent_secret(f"{_KEYS}{name}{TRUST_SUFFIX}"))
    else:
        context.trusted_ca.filename = settings.ca_certificates
        common.validation_context.CopyFrom(context)


def _sent_secret(name: str) -> SdsSecretConfig:
    """Over ADS. With Envoy's own limit of how long to wait: whoever deletes a Secret must not hold up the rest."""
    source = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)
    return SdsSecretConfig(name=name, sds_config=source)


def _secret(name: str) -> SdsSecretConfig:
    """A file the agent replaces by rename. The path is relative, so the bytes are the same for every proxy."""
    source = PathConfigSource(path=f"{_SECRETS}/{name}.json", watched_directory=WatchedDirectory(path=_SECRETS))
    return SdsSecretConfig(
        name=name, sds_config=ConfigSource(path_config_source=source, resource_api_version=ApiVersion.V3)
    )


def _san(matcher: StringMatcher, *, dns: bool = False) -> SubjectAltNameMatcher:
    is_uri = not dns or matcher.exact.startswith("spiffe://")
    return SubjectAltNameMatcher(
        san_type=SubjectAltNameMatcher.URI if is_uri else SubjectAltNameMatcher.DNS, matcher=matcher
    )


def _socket(context: UpstreamTlsContext | DownstreamTlsContext) -> TransportSocket:
    return TransportSocket(name=_TLS, typed_config=packed(context))
