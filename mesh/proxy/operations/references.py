"""What a resource needs of others before it can serve: the names it refers to and where each comes from.

MUST NOT do I/O or judge a resource: whatever it cannot read, the compiler will refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NewType

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.core.v3.config_source_pb2 import ConfigSource
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import DecodeError, Message

from mesh.proxy.resources import Resources

Kind = NewType("Kind", str)

LISTENER = Kind("listeners")
ROUTE = Kind("routes")
CLUSTER = Kind("clusters")
ENDPOINT = Kind("endpoints")
SECRET = Kind("secrets")

Name = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class Reference:
    """One name that a resource refers to. `owner` is the name that Envoy's counters of its updates begin with."""

    kind: Kind
    name: str
    source: ConfigSource = field(compare=False, hash=False, repr=False)
    owner: str = field(compare=False)


def of_listener(listener: Listener) -> frozenset[Reference]:
    """The route configurations and secrets that `listener` waits for."""
    found: set[Reference] = set()
    for chain in _chains(listener):
        found.update(_of_transport(chain.transport_socket))
    for network_filter in _filters(listener):
        found.update(_of_filter(network_filter))
    return frozenset(found)


def of_cluster(cluster: Cluster) -> frozenset[Reference]:
    """The load assignment and secrets that `cluster` waits for."""
    found: set[Reference] = set()
    for socket in _sockets(cluster):
        found.update(_of_transport(socket))
    if cluster.type == Cluster.EDS:
        eds = cluster.eds_cluster_config
        found.add(Reference(ENDPOINT, eds.service_name or cluster.name, eds.eds_config, f"cluster.{cluster.name}"))
    return frozenset(found)


def inline_routes(listener: Listener) -> Iterator[RouteConfiguration]:
    """The route configurations that `listener` carries in itself."""
    for network_filter in _filters(listener):
        manager = _manager(network_filter)
        if manager is not None and manager.HasField("route_config"):
            yield manager.route_config


def tls_contexts(resources: Resources) -> Iterator[CommonTlsContext]:
    """Every TLS context of listeners and clusters."""
    for listener in resources.listeners.values():
        for chain in _chains(listener):
            yield from _contexts(chain.transport_socket)
    for cluster in resources.clusters.values():
        for socket in _sockets(cluster):
            yield from _contexts(socket)


def validation_of(context: CommonTlsContext) -> tuple[CertificateValidationContext, str]:
    """What `context` itself says of the peer's certificate, and the secret that says more (or an empty name)."""
    if context.HasField("combined_validation_context"):
        combined = context.combined_validation_context
        return combined.default_validation_context, combined.validation_context_sds_secret_config.name
    return context.validation_context, context.validation_context_sds_secret_config.name


def _chains(listener: Listener) -> list[FilterChain]:
    default = [listener.default_filter_chain] if listener.HasField("default_filter_chain") else []
    return [*listener.filter_chains, *default]


def _filters(listener: Listener) -> Iterator[Filter]:
    for chain in _chains(listener):
        yield from chain.filters


def _sockets(cluster: Cluster) -> list[TransportSocket]:
    return [cluster.transport_socket, *(match.transport_socket for match in cluster.transport_socket_matches)]


def _manager(network_filter: Filter) -> HttpConnectionManager | None:
    manager = HttpConnectionManager()
    return manager if _unpack(network_filter.typed_config, manager) else None


def _contexts(socket: TransportSocket) -> Iterator[CommonTlsContext]:
    for context in (DownstreamTlsContext(), UpstreamTlsContext()):
        if _unpack(socket.typed_config, context):
            yield context.common_tls_context


def _of_filter(network_filter: Filter) -> Iterator[Reference]:
    manager = _manager(network_filter)
    if manager is not None and manager.rds.route_config_name:
        name = manager.rds.route_config_name
        yield Reference(ROUTE, name, manager.rds.config_source, f"http.{manager.stat_prefix}.rds.{name}")


def _of_transport(socket: TransportSocket) -> Iterator[Reference]:
    for context in _contexts(socket):
        configs = list(context.tls_certificate_sds_secret_configs)
        configs.append(context.validation_context_sds_secret_config)
        configs.append(context.combined_validation_context.validation_context_sds_secret_config)
        for config in configs:
            if config.name and config.HasField("sds_config"):  # without sds_config it names a static secret
                yield Reference(SECRET, config.name, config.sds_config, f"sds.{config.name}")


def _unpack(packed: Packed, into: Message) -> bool:
    try:
        return bool(packed.Unpack(into))
    except DecodeError:  # the compiler refuses it with its place
        return False
