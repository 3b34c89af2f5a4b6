"""CDS: a cluster for every port and subset of every service, and one for every port of the proxy's own app."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import SocketAddress
from envoy.config.core.v3.base_pb2 import Metadata
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from mesh.api.destination_rule import ClientTLSMode, ConnectionPoolSettings, HTTPSettings, Subset
from mesh.registry.protocol import Protocol
from mesh.registry.types import Discovery, Service, ServicePort
from mesh.snapshot.destination_rules import MergedRule
from mesh.xds.compile import endpoints, names, tls
from mesh.xds.compile.load_balancing import apply_balancer
from mesh.xds.compile.messages import address, over_ads
from mesh.xds.compile.policy import Policy, effective
from mesh.xds.compile.pools import (
    apply_outlier_detection,
    apply_pool,
    apply_retry_budget,
    apply_server_name_of_request,
    is_http2,
)
from mesh.xds.compile.ports import InboundPort

_DNS_REFRESH_S: Final = 60  # Istio's, for answers that say nothing
_INBOUND_SOURCE: Final = "127.0.0.6"
"""Istio's: a loopback address that no app uses."""


def outbound(
    service: Service, port: ServicePort, subset: Subset | None, rule: MergedRule | None, identities: Sequence[str]
) -> Cluster:
    """The cluster that clients reach a service's port by. `identities` are whom its workloads may run as."""
    policy = effective(rule, subset, port.number)
    subset_name = subset.name if subset else ""
    name = names.outbound_cluster(port.number, subset_name, service.host)
    cluster = Cluster(name=name, metadata=_metadata([service], subset_name, rule, port.number))
    apply_balancer(cluster, policy.load_balancer)
    _apply_discovery(cluster, service, port, subset)
    apply_pool(cluster, policy.connection_pool, port.protocol)
    apply_retry_budget(cluster, policy.retry_budget)
    apply_outlier_detection(cluster, policy.outlier_detection)
    _apply_tls(cluster, policy, names.outbound_sni(port.number, subset_name, service.host), identities, (service, port))
    return cluster


def _apply_discovery(cluster: Cluster, service: Service, port: ServicePort, subset: Subset | None) -> None:
    """Where its hosts come from. After the balancer's choice, which the client's own destination leaves no room for."""
    match service.discovery:
        case Discovery.REGISTRY:
            cluster.type = Cluster.EDS
            cluster.eds_cluster_config.CopyFrom(
                Cluster.EdsClusterConfig(eds_config=over_ads(), service_name=cluster.name)
            )
        case Discovery.ORIGINAL_DESTINATION:
            cluster.type, cluster.lb_policy = Cluster.ORIGINAL_DST, Cluster.CLUSTER_PROVIDED
        case _:
            labels = (subset.labels if subset is not None else {}).items()
            chosen = [own for own in service.endpoints if own.service_port == port.number]
            chosen = [own for own in chosen if labels <= own.workload.labels.items()]
            # Envoy takes LOGICAL_DNS with one host exactly, and a subset may have none.
            one_at_a_time = service.discovery is Discovery.DNS_ROUND_ROBIN and len(chosen) == 1
            cluster.type = Cluster.LOGICAL_DNS if one_at_a_time else Cluster.STRICT_DNS
            cluster.load_assignment.CopyFrom(endpoints.of_names(cluster.name, chosen))
            cluster.dns_lookup_family = Cluster.V4_ONLY
            cluster.dns_refresh_rate.FromSeconds(_DNS_REFRESH_S)
            cluster.respect_dns_ttl = True


def inbound(port: InboundPort) -> Cluster:
    """The app behind one of the proxy's own ports."""
    name = names.inbound_cluster(port.number)
    endpoint = LbEndpoint(endpoint=Endpoint(address=address(*port.app)))
    cluster = Cluster(
        name=name,
        type=Cluster.STATIC,
        load_assignment=ClusterLoadAssignment(
            cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
        metadata=_metadata(port.services),
    )
    apply_pool(cluster, port.policy.connection_pool, port.protocol, inbound=True)
    return cluster


def captured_inbound(port: InboundPort) -> Cluster:
    """The app behind a port whose traffic is captured."""
    cluster = _to_the_app(names.inbound_cluster(port.number))
    cluster.metadata.CopyFrom(_metadata(port.services))
    apply_pool(cluster, port.policy.connection_pool, port.protocol, inbound=True)
    return cluster


def inbound_passthrough() -> Cluster:
    """The app behind a port that nobody declared."""
    cluster = _to_the_app(names.INBOUND_PASSTHROUGH)
    apply_pool(cluster, None, Protocol.TCP, inbound=True)
    return cluster


def passthrough() -> Cluster:
    """Wherever the app meant to go, in the protocol that it speaks."""
    cluster = _original_destination(names.PASSTHROUGH)
    apply_pool(cluster, ConnectionPoolSettings(http=HTTPSettings(use_client_protocol=True)), Protocol.HTTP)
    return cluster


def _to_the_app(name: str) -> Cluster:
    """To the address that the client meant, the pod's own, as Istio does since 1.10.

    So an app that listens on loopback alone is reached by nobody else, as without a mesh. The source address tells the
    kernel's rules that this is not to be captured again.
    """
    cluster = _original_destination(name)
    cluster.upstream_bind_config.source_address.CopyFrom(SocketAddress(address=_INBOUND_SOURCE, port_value=0))
    return cluster


def _original_destination(name: str) -> Cluster:
    return Cluster(name=name, type=Cluster.ORIGINAL_DST, lb_policy=Cluster.CLUSTER_PROVIDED)


def black_hole() -> Cluster:
    """A cluster without hosts, for what must not leave."""
    return Cluster(name=names.BLACK_HOLE, type=Cluster.STATIC, connect_timeout=Duration(seconds=10))


def _apply_tls(
    cluster: Cluster, policy: Policy, sni: str, identities: Sequence[str], at: tuple[Service, ServicePort]
) -> None:
    """The DestinationRule's mode; without one, mutual TLS to the endpoints that have a sidecar (auto mTLS)."""
    service, port = at
    settings, http2 = policy.tls, is_http2(policy.connection_pool, port.protocol)
    if settings is None:
        if service.external or service.discovery is Discovery.ORIGINAL_DESTINATION:
            return
        auto = (("tlsMode-istio", {"tlsMode": "istio"}, tls.mesh_client(sni, identities, http2=http2)),)
        for name, match, socket in (*auto, ("tlsMode-disabled", {}, tls.plaintext())):
            entry = cluster.transport_socket_matches.add(name=name, transport_socket=socket)
            entry.match.update(match)
    elif settings.mode is ClientTLSMode.ISTIO_MUTUAL:
        peers = settings.subject_alt_names or identities
        cluster.transport_socket.CopyFrom(tls.mesh_client(settings.sni or sni, peers, http2=http2))
    elif settings.mode is not ClientTLSMode.DISABLE:
        alpn = ("h2",) if http2 else ()
        settings = replace(settings, subject_alt_names=settings.subject_alt_names or service.subject_alt_names)
        cluster.transport_socket.CopyFrom(tls.originated(settings, alpn))
        if not settings.sni:
            verifies = not settings.insecure_skip_verify and not settings.subject_alt_names
            apply_server_name_of_request(cluster, verifies=verifies)


def _metadata(
    services: Sequence[Service], subset: str = "", rule: MergedRule | None = None, port: int | None = None
) -> Metadata:
    """Istio's cluster metadata, which telemetry and people read."""
    named = [{"host": own.host, "name": own.name, "namespace": own.namespace} for own in services]
    body: dict[str, object] = {"services": named}
    if subset:
        body["subset"] = subset
    if port is not None:
        body["default_original_port"] = port
    if rule is not None:
        source = rule.sources[0]
        body["config"] = f"/apis/networking.istio.io/v1/namespaces/{source.namespace}/destination-rule/{source.name}"
    istio = Struct()
    istio.update(body)
    return Metadata(filter_metadata={"istio": istio})
