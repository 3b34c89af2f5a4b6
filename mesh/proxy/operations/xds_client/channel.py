"""The static cluster that `ads_config` names, as what gRPC needs to dial it.

gRPC does this connection's HTTP/2 and TLS. So of the cluster only what gRPC can honour is taken; the rest is refused.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import SubjectAltNameMatcher
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, UpstreamTlsContext
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf.message import DecodeError

from mesh.proxy.fields import OPAQUE, Place, check
from mesh.proxy.operations import references
from mesh.proxy.resources import Refused
from mesh.proxy.tls.secrets import SecretError, content

Options = list[tuple[str, int | str]]

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CORE, _ENDPOINT, _TLS = (
    "envoy.config.core.v3.",
    "envoy.config.endpoint.v3.",
    "envoy.extensions.transport_sockets.tls.v3.",
)
_SUPPORTED = {
    "envoy.config.cluster.v3.Cluster": frozenset(
        ("name", "type", "connect_timeout", "load_assignment", "transport_socket", "typed_extension_protocol_options")
    ),
    _ENDPOINT + "ClusterLoadAssignment": frozenset(("cluster_name", "endpoints")),
    _ENDPOINT + "LocalityLbEndpoints": frozenset(("lb_endpoints",)),
    _ENDPOINT + "LbEndpoint": frozenset(("endpoint",)),
    _ENDPOINT + "Endpoint": frozenset(("address",)),
    _CORE + "Address": frozenset(("socket_address",)),
    _CORE + "SocketAddress": frozenset(("address", "port_value")),
    _CORE + "TransportSocket": frozenset(("name", "typed_config")),
    _CORE + "DataSource": OPAQUE,
    _CORE + "ConfigSource": OPAQUE,
    _CORE + "Http2ProtocolOptions": frozenset(("connection_keepalive",)),
    _CORE + "KeepaliveSettings": frozenset(("interval", "timeout")),
    _HTTP_OPTIONS: frozenset(("explicit_http_config",)),
    _HTTP_OPTIONS + ".ExplicitHttpConfig": frozenset(("http2_protocol_options",)),
    _TLS + "UpstreamTlsContext": frozenset(("common_tls_context", "sni")),
    _TLS + "CommonTlsContext": frozenset(
        ("alpn_protocols", "tls_certificates", "tls_certificate_sds_secret_configs", "validation_context",
         "validation_context_sds_secret_config", "combined_validation_context")
    ),
    _TLS + "CommonTlsContext.CombinedCertificateValidationContext": frozenset(
        ("default_validation_context", "validation_context_sds_secret_config")
    ),
    _TLS + "TlsCertificate": frozenset(("certificate_chain", "private_key")),
    _TLS + "SdsSecretConfig": frozenset(("name", "sds_config")),
    _TLS + "CertificateValidationContext": frozenset(("trusted_ca", "match_typed_subject_alt_names")),
    _TLS + "SubjectAltNameMatcher": frozenset(("san_type", "matcher")),
    "envoy.type.matcher.v3.StringMatcher": OPAQUE,  # `_verified_name` looks at it
}  # fmt: skip
# Far above any mesh's configuration, far below what would hurt the host.
_LARGEST_RESPONSE = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Dialer:
    """How to connect to the control plane. Build it once with `of`; `channel` reads the secrets as they are then."""

    targets: tuple[str, ...]
    tls: UpstreamTlsContext | None
    options: tuple[tuple[str, int | str], ...]

    @classmethod
    def of(cls, cluster: Cluster) -> Dialer:
        """Raises Refused for what gRPC cannot honour."""
        check(cluster, _SUPPORTED, Place("Cluster", cluster.name))
        return cls(_targets(cluster), _tls(cluster), tuple(_options(cluster)))

    def channel(self, secrets: Mapping[str, Secret]) -> grpc.aio.Channel:
        """A fresh channel with the credentials of this moment. Raises SecretError if a secret is not there."""
        target = random.choice(self.targets)
        if self.tls is None:
            return grpc.aio.insecure_channel(target, options=self.options)
        return grpc.aio.secure_channel(target, _credentials(self.tls.common_tls_context, secrets), options=self.options)


def _targets(cluster: Cluster) -> tuple[str, ...]:
    if cluster.type not in (Cluster.STATIC, Cluster.STRICT_DNS, Cluster.LOGICAL_DNS):
        raise _refused(cluster, "type", "the control plane's cluster must be STATIC, STRICT_DNS or LOGICAL_DNS")
    addresses = [
        endpoint.endpoint.address.socket_address
        for locality in cluster.load_assignment.endpoints
        for endpoint in locality.lb_endpoints
    ]
    if not addresses:
        raise _refused(cluster, "load_assignment", "needs an endpoint")
    return tuple(_target(cluster, address) for address in addresses)


def _target(cluster: Cluster, address: Any) -> str:
    if not address.address or not address.port_value:
        raise _refused(cluster, "load_assignment", "endpoints need socket_address with address and port_value")
    if cluster.type != Cluster.STATIC:
        return f"dns:///{address.address}:{address.port_value}"
    if ":" in address.address:
        return f"ipv6:[{address.address}]:{address.port_value}"
    return f"ipv4:{address.address}:{address.port_value}"


def _tls(cluster: Cluster) -> UpstreamTlsContext | None:
    if not cluster.HasField("transport_socket"):
        return None
    context = UpstreamTlsContext()
    try:
        unpacked = cluster.transport_socket.typed_config.Unpack(context)
    except DecodeError as error:
        raise _refused(cluster, "transport_socket.typed_config", f"cannot be decoded: {error}") from error
    if not unpacked:
        raise _refused(cluster, "transport_socket.typed_config", "only UpstreamTlsContext is supported")
    check(context, _SUPPORTED, Place("Cluster", cluster.name, "transport_socket.typed_config"))
    return context


def _options(cluster: Cluster) -> Options:
    milliseconds = int(cluster.connect_timeout.ToTimedelta().total_seconds() * 1000) or 5000
    options: Options = [
        ("grpc.max_receive_message_length", _LARGEST_RESPONSE),
        ("grpc.min_reconnect_backoff_ms", milliseconds),  # which is also gRPC's limit for one attempt to connect
        ("grpc.use_local_subchannel_pool", 1),  # each stream its own connection: new credentials, no old back-off
        ("grpc.enable_retries", 0),
        ("grpc.lb_policy_name", "pick_first"),
        *_keepalive(cluster),
    ]
    name = _verified_name(cluster)
    return [*options, ("grpc.ssl_target_name_override", name)] if name else options


def _keepalive(cluster: Cluster) -> Options:
    http = HttpProtocolOptions()
    if _HTTP_OPTIONS in cluster.typed_extension_protocol_options:
        cluster.typed_extension_protocol_options[_HTTP_OPTIONS].Unpack(http)
        check(http, _SUPPORTED, Place("Cluster", cluster.name, f"typed_extension_protocol_options[{_HTTP_OPTIONS}]"))
    keepalive = http.explicit_http_config.http2_protocol_options.connection_keepalive
    if not keepalive.HasField("interval"):
        # gRPC servers tolerate one ping in five minutes unless they say otherwise.
        return [("grpc.keepalive_time_ms", 300_000), ("grpc.keepalive_timeout_ms", 20_000)]
    return [
        ("grpc.keepalive_time_ms", int(keepalive.interval.ToTimedelta().total_seconds() * 1000)),
        ("grpc.keepalive_timeout_ms", int(keepalive.timeout.ToTimedelta().total_seconds() * 1000) or 20_000),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def _verified_name(cluster: Cluster) -> str:
    """The name that the server's certificate must carry: gRPC checks exactly one, always."""
    context = _tls(cluster)
    if context is None:
        return ""
    validation, _ = references.validation_of(context.common_tls_context)
    matchers = validation.match_typed_subject_alt_names
    if not matchers:
        return str(context.sni)
    if len(matchers) > 1 or matchers[0].matcher.WhichOneof("match_pattern") != "exact":
        raise _refused(cluster, "match_typed_subject_alt_names", "gRPC can verify one exact name only")
    if matchers[0].san_type not in (SubjectAltNameMatcher.DNS, SubjectAltNameMatcher.IP_ADDRESS):
        raise _refused(cluster, "match_typed_subject_alt_names", "gRPC can verify san_type DNS or IP_ADDRESS only")
    return str(matchers[0].matcher.exact)


def _credentials(context: CommonTlsContext, secrets: Mapping[str, Secret]) -> grpc.ChannelCredentials:
    trust, name = references.validation_of(context)
    if name:
        trust = _secret(name, secrets).validation_context
    pairs = list(context.tls_certificates)
    pairs += [_secret(config.name, secrets).tls_certificate for config in context.tls_certificate_sds_secret_configs]
    return grpc.ssl_channel_credentials(
        root_certificates=content(trust.trusted_ca) or None,
        private_key=content(pairs[0].private_key) if pairs else None,
        certificate_chain=content(pairs[0].certificate_chain) if pairs else None,
    )


def _secret(name: str, secrets: Mapping[str, Secret]) -> Secret:
    if name not in secrets:
        raise SecretError(f"secret {name!r} is not loaded")
    return secrets[name]


def _refused(cluster: Cluster, path: str, reason: str) -> Refused:
    return Refused("Cluster", cluster.name, path, reason)
