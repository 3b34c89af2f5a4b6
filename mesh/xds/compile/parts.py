"""What makes up the outbound resources of one sight: each part with all the inputs that it is compiled from.

A part is a small immutable value. Equal parts compile to equal bytes, so whoever keeps the results need only compare
parts to know what to compile again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.route.v3.route_components_pb2 import VirtualHost

from mesh.api.destination_rule import Subset
from mesh.registry.protocol import Protocol
from mesh.registry.types import CLUSTER_DOMAIN, Discovery, Endpoint, Service, ServicePort
from mesh.snapshot.destination_rules import MergedRule
from mesh.snapshot.order import exported
from mesh.snapshot.peer_authentication import PeerAuthenticationIndex
from mesh.snapshot.snapshot import MeshSnapshot
from mesh.snapshot.virtual_services import MESH, BoundVirtualService
from mesh.xds.compile import clusters, endpoints, names, outbound, tls
from mesh.xds.compile.destinations import Destinations, hashing_rules
from mesh.xds.compile.locality import Caller, Spread, groups, setting_of
from mesh.xds.compile.matching import Listening
from mesh.xds.compile.policy import effective
from mesh.xds.compile.proxy import Sight
from mesh.xds.compile.virtual_hosts import (
    EXPLICIT,
    HTTP_DEFAULT_PORT,
    Reach,
    foreign_virtual_host,
    service_virtual_host,
    speaks_http,
)


@dataclass(frozen=True, slots=True)
class ClusterPart:
    """An outbound cluster. `subset` None is the service as a whole."""

    service: Service
    port: ServicePort
    subset: Subset | None
    rule: MergedRule | None
    identities: tuple[str, ...]

    @property
    def wants(self) -> tuple[str, ...]:
        """The endpoints that it asks for."""
        return (self.name,) if self.service.discovery is Discovery.REGISTRY else ()

    @property
    def name(self) -> str:
        return names.outbound_cluster(self.port.number, self.subset.name if self.subset else "", self.service.host)

    def spread(self, caller: Caller) -> Spread | None:
        """How its endpoints are arranged for a client; None where that makes no difference."""
        found = setting_of(effective(self.rule, self.subset, self.port.number)) if caller.locality else None
        return Spread(found[0], caller, found[1]) if found is not None else None

    def compile(self) -> Cluster:
        return clusters.outbound(self.service, self.port, self.subset, self.rule, self.identities)


@dataclass(frozen=True, slots=True)
class EndpointsPart:
    """The hosts of an outbound cluster."""

    cluster: ClusterPart
    endpoints: tuple[Endpoint, ...]
    policies: PeerAuthenticationIndex
    spread: Spread | None = None

    @property
    def key(self) -> tuple[tuple[tuple[str, str], ...], Caller | None]:
        """Of several for one cluster: the subset's labels, and the client they are arranged for."""
        subset = self.cluster.subset
        labels = tuple(sorted(subset.labels.items())) if subset is not None else ()
        return labels, self.spread.caller if self.spread is not None else None

    def compile(self) -> ClusterLoadAssignment:
        subset = self.cluster.subset
        labels = subset.labels if subset is not None else {}
        port = self.cluster.port.number
        chosen = [
            own for own in self.endpoints if own.service_port == port and labels.items() <= own.workload.labels.items()
        ]
        return endpoints.assignment(self.cluster.name, groups(chosen, self.spread), self.policies)


@dataclass(frozen=True, slots=True)
class VirtualHostPart:
    """A virtual host of sidecars. `service` None is a host that only the VirtualService knows.

    `known` are the services among the VirtualService's destinations; `hashing` are the rules, of these and of the
    service itself, that choose a host by hash.
    """

    host: str
    service: Service | None
    bound: BoundVirtualService | None
    at: Listening
    known: tuple[Service, ...]
    hashing: tuple[tuple[str, MergedRule], ...] = ()
    reach: Reach = EXPLICIT

    @property
    def name(self) -> str:
        return f"{self.host}:{self.at.port}"

    def compile(self) -> VirtualHost | None:
        """None when nothing of it applies to these callers."""
        destinations = Destinations({service.host: service for service in self.known}, dict(self.hashing))
        if self.service is not None:
            return service_virtual_host(self.service, self.bound, self.at, destinations, self.reach)
        assert self.bound is not None
        return foreign_virtual_host(self.host, self.bound, self.at, destinations)


def visible(snapshot: MeshSnapshot, namespace: str) -> Iterator[tuple[str, Service]]:
    """Services that clients in a namespace know, by host."""
    for host, service in sorted(snapshot.services.items()):
        if exported(service.export_to, service.namespace, namespace):
            yield host, service


def cluster_parts(snapshot: MeshSnapshot, namespace: str) -> Iterator[ClusterPart]:
    """Every outbound cluster that clients in a namespace see."""
    domain = snapshot.options.trust_domain
    for host, service in visible(snapshot, namespace):
        rule = snapshot.destination_rules.lookup(service, namespace)
        accounts = snapshot.accounts.get(host, ())
        own = (tls.spiffe(domain, service.namespace, account) for account in accounts)
        identities = (*own, *service.subject_alt_names)
        for port in service.ports:
            if port.protocol is not Protocol.UDP:
                for subset in (None, *(rule.subsets if rule else ())):
                    yield ClusterPart(service, port, subset, rule, identities)


def endpoints_part(snapshot: MeshSnapshot, cluster: ClusterPart, spread: Spread | None) -> EndpointsPart:
    """The present endpoints behind a cluster."""
    present = snapshot.endpoints.get(cluster.service.host, ())
    return EndpointsPart(cluster, present, snapshot.peer_authentication, spread)


def virtual_host_parts(snapshot: MeshSnapshot, sight: Sight) -> Iterator[VirtualHostPart]:
    """Every virtual host of the HTTP proxy."""
    for host, service in visible(snapshot, sight.namespace):
        if service.outside_host and _is_short_for_a_service(snapshot, host, sight.namespace):
            continue
        bound = snapshot.virtual_services.for_host(host, sight.namespace)
        for port in service.ports:
            if speaks_http(port):
                yield _virtual_host_part(snapshot, sight, host, bound, port.number)
    for host in sorted(snapshot.virtual_services.mesh_hosts):
        bound = snapshot.virtual_services.for_host(host, sight.namespace)
        if bound is not None and not _is_service(snapshot, host):
            yield _virtual_host_part(snapshot, sight, host, bound, HTTP_DEFAULT_PORT)


def service_virtual_host_part(snapshot: MeshSnapshot, sight: Sight, host: str, port: int) -> VirtualHostPart | None:
    """The virtual host of one service's port, if it may be asked for requests."""
    service = snapshot.services.get(host)
    own = service.port(port) if service else None
    if own is None or not speaks_http(own):
        return None
    return _virtual_host_part(snapshot, sight, host, snapshot.virtual_services.for_host(host, sight.namespace), port)


def tcp_ports(snapshot: MeshSnapshot, sight: Sight) -> Iterator[outbound.TcpPort]:
    """Every TCP port that sidecars of this sight may listen on for their app."""
    services = snapshot.services
    hashing = dict(hashing_rules(services.values(), snapshot.destination_rules, sight.namespace))
    destinations = Destinations(services, hashing)
    claims = outbound.tcp_claims((own for _, own in visible(snapshot, sight.namespace)), sight.namespace)
    for number, (service, _) in sorted(claims.items()):
        bound = snapshot.virtual_services.for_host(service.host, sight.namespace)
        at = listening(sight, number)
        yield outbound.tcp_port(service, number, bound, at, destinations)


def _virtual_host_part(
    snapshot: MeshSnapshot, sight: Sight, host: str, bound: BoundVirtualService | None, port: int
) -> VirtualHostPart:
    """Who calls is left out of the part where it makes no difference, so that callers share it."""
    services = snapshot.services
    service = services.get(host)
    known = tuple(services[name] for name in (bound.destinations if bound else ()) if name in services)
    reached = (service, *known) if service else known
    hashing = tuple(hashing_rules(reached, snapshot.destination_rules, sight.namespace))
    at = listening(sight, port)
    if not (bound and bound.asks_source):
        local = service is not None and service.namespace == sight.namespace
        at = Listening(port, at.gateways, sight.namespace if local else "", frozenset())
    return VirtualHostPart(host, service, bound, at, known, hashing)


def _is_short_for_a_service(snapshot: MeshSnapshot, host: str, namespace: str) -> bool:
    """Whether a ServiceEntry's host is what clients there call a Kubernetes Service, which counts before it."""
    rests = (f".{namespace}.svc", ".svc", "")
    return any(f"{host}{rest}.{CLUSTER_DOMAIN}" in snapshot.services for rest in rests)


def _is_service(snapshot: MeshSnapshot, host: str) -> bool:
    """Whether a service answers to this name already, in full or in part: Envoy refuses a domain given twice."""
    return any(f"{host}{rest}" in snapshot.services for rest in ("", f".{CLUSTER_DOMAIN}", f".svc.{CLUSTER_DOMAIN}"))


def listening(sight: Sight, port: int) -> Listening:
    """What sidecars of this sight are when they listen there."""
    return Listening(port, frozenset({MESH}), sight.namespace, sight.labels)
