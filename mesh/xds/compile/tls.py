"""TLS contexts: mutual TLS of the mesh by SDS files, and TLS origination by a DestinationRule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from envoy.config.core.v3.base_pb2 import DataSource, TransportSocket, WatchedDirectory
from envoy.config.core.v3.config_source_pb2 import ApiVersion, ConfigSource, PathConfigSource
from envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2 import RawBuffer
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    SubjectAltNameMatcher,
    TlsCertificate,
    TlsParameters,
)
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import (
    CommonTlsContext,
    DownstreamTlsContext,
    UpstreamTlsContext,
)
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.wrappers_pb2 import BoolValue

from mesh.api.destination_rule import ClientTLSMode, ClientTLSSettings
from mesh.xds.compile.messages import packed

MESH_ALPN: Final = ("istio-peer-exchange", "istio")
_CLIENT_ALPN: Final = ("istio",)
_SERVER_HTTP_ALPN: Final = ("h2", "http/1.1")
_SECRETS: Final = "secrets"
_SYSTEM_ROOTS: Final = "/etc/ssl/certs/ca-certificates.crt"
_TLS: Final = "envoy.transport_sockets.tls"


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
