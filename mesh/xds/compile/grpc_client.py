"""Resources of gRPC's own xDS client (gRFC A27 and what followed it), made from those of a sidecar.

gRPC takes the same API but less of it, and refuses what it cannot take; what is left out here, it would not honour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.cluster.v3.outlier_detection_pb2 import OutlierDetection
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.api_listener_pb2 import ApiListener
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateProviderPluginInstance,
    CertificateValidationContext,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, UpstreamTlsContext
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.wrappers_pb2 import UInt32Value

from mesh.api.destination_rule import ClientTLSMode
from mesh.xds.compile.messages import over_ads, packed
from mesh.xds.compile.parts import ClusterPart, EndpointsPart, VirtualHostPart
from mesh.xds.compile.policy import effective
from mesh.xds.compile.virtual_hosts import route_configuration

CERTIFICATES: Final = "default"
"""The certificate provider that Istio's bootstrap for gRPC names."""
_BALANCERS: Final = frozenset({Cluster.ROUND_ROBIN, Cluster.RING_HASH})
_ALL_FAIL: Final = 99  # the share that must be exceeded, in per cent


def listener(name: str, routes: str) -> Listener:
    """The listener that a channel to the target `xds:///<name>` asks for."""
    manager = HttpConnectionManager(
        rds=Rds(route_config_name=routes, config_source=over_ads()),
        http_filters=[
            HttpFilter(name="envoy.filters.http.fault", typed_config=packed(HTTPFault())),
            HttpFilter(name="envoy.filters.http.router", typed_config=packed(Router())),
        ],
    )
    return Listener(name=name, api_listener=ApiListener(api_listener=packed(manager)))


def routes(name: str, part: VirtualHostPart) -> RouteConfiguration:
    """The routes of one service's port. gRPC reads a limit of time where Envoy has none: from `max_stream_duration`."""
    host = part.compile() or VirtualHost(name=part.name)
    for route in host.routes:
        if route.route.HasField("timeout") and route.route.timeout.ToMilliseconds():
            route.route.max_stream_duration.max_stream_duration.CopyFrom(route.route.timeout)
    return route_configuration(name, [host])


def cluster(part: ClusterPart) -> Cluster:
    """Plaintext unless a DestinationRule says ISTIO_MUTUAL, as with Istio: gRPC cannot choose by endpoint."""
    result = part.compile()
    if result.lb_policy not in _BALANCERS:
        result.lb_policy = Cluster.ROUND_ROBIN
    result.ClearField("transport_socket_matches")
    result.ClearField("transport_socket")
    result.ClearField("typed_extension_protocol_options")
    settings = effective(part.rule, part.subset, part.port.number).tls
    if settings is not None and settings.mode is ClientTLSMode.ISTIO_MUTUAL:
        result.transport_socket.CopyFrom(_mutual_tls(settings.subject_alt_names or part.identities))
    if result.HasField("outlier_detection"):
        _count_failures(result.outlier_detection)
    return result


def endpoints(part: EndpointsPart) -> ClusterLoadAssignment:
    """gRPC refuses a locality that is not said, though it may be empty."""
    result = part.compile()
    for group in result.endpoints:
        group.locality.SetInParent()
    return result


def _count_failures(outliers: OutlierDetection) -> None:
    """gRPC knows no consecutive errors (gRFC A50): a host goes when all calls of an interval failed, that many."""
    counts = [own.value for own in (outliers.consecutive_5xx, outliers.consecutive_gateway_failure) if own.value]
    if not counts:
        return
    outliers.failure_percentage_threshold.value = _ALL_FAIL
    outliers.enforcing_failure_percentage.value = 100
    outliers.failure_percentage_minimum_hosts.value = 1
    outliers.failure_percentage_request_volume.CopyFrom(UInt32Value(value=min(counts)))


def _mutual_tls(identities: Sequence[str]) -> TransportSocket:
    """Keys stay with the client: the provider is in its bootstrap."""
    provider = CertificateProviderPluginInstance(instance_name=CERTIFICATES, certificate_name="default")
    validation = CertificateValidationContext(
        ca_certificate_provider_instance=CertificateProviderPluginInstance(
            instance_name=CERTIFICATES, certificate_name="ROOTCA"
        ),
        match_subject_alt_names=[StringMatcher(exact=identity) for identity in identities],
    )
    common = CommonTlsContext(tls_certificate_provider_instance=provider, validation_context=validation)
    return TransportSocket(
        name="envoy.transport_sockets.tls", typed_config=packed(UpstreamTlsContext(common_tls_context=common))
    )
