"""What a resource needs of others before it can serve: the names it refers to and where each comes from.

MUST NOT do I/O or judge a resource: whatever it cannot read, the compiler will refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NewType

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.core.v3.config_source_pb2 import ConfigSource
from envoy.config.listener.v3.listener_pb2 import Filter, Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext

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
    chains = list(listener.filter_chains)
    if listener.HasField("default_filter_chain"):
        chains.append(listener.default_filter_chain)
    found: set[Reference] = set()
    for chain in chains:
        found.update(_of_transport(chain.transport_socket))
        for network_filter in chain.filters:
            found.update(_of_filter(network_filter))
    return frozenset(found)


def of_cluster(cluster: Cluster) -> frozenset[Reference]:
    """The load assignment and secrets that `cluster` waits for."""
    found = set(_of_transport(cluster.transport_socket))
    for match in cluster.transport_socket_matches:
        found.update(_of_transport(match.transport_socket))
    if cluster.type == Cluster.EDS:
        eds = cluster.eds_cluster_config
        found.add(Reference(ENDPOINT, eds.service_name or cluster.name, eds.eds_config, f"cluster.{cluster.name}"))
    return frozenset(found)


def _of_filter(network_filter: Filter) -> Iterator[Reference]:
    manager = HttpConnectionManager()
    if network_filter.typed_config.Is(manager.DESCRIPTOR) and _unpack(network_filter.typed_config, manager):
        name = manager.rds.route_config_name
        if manager.HasField("rds") and name:
            yield Reference(ROUTE, name, manager.rds.config_source, f"http.{manager.stat_prefix}.rds.{name}")


def _of_transport(socket: TransportSocket) -> Iterator[Reference]:
    for context in (DownstreamTlsContext(), UpstreamTlsContext()):
        if socket.typed_config.Is(context.DESCRIPTOR) and _unpack(socket.typed_config, context):
            yield from _of_tls(context.common_tls_context)


def _of_tls(context: CommonTlsContext) -> Iterable[Reference]:
    configs = list(context.tls_certificate_sds_secret_configs)
    if context.HasField("validation_context_sds_secret_config"):
        configs.append(context.validation_context_sds_secret_config)
    if context.HasField("combined_validation_context"):
        configs.append(context.combined_validation_context.validation_context_sds_secret_config)
    for config in configs:
        if config.name and config.HasField("sds_config"):  # without sds_config it names a static secret
            yield Reference(SECRET, config.name, config.sds_config, f"sds.{config.name}")


def _unpack(packed: Any, into: Any) -> bool:
    try:
        return bool(packed.Unpack(into))
    except ValueError:  # not decodable: DecodeError; the compiler refuses it with its place
        return False
