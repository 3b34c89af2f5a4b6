"""EDS: the ready endpoints of a service's port, narrowed to a subset's labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from envoy.config.core.v3.base_pb2 import Locality, Metadata
from envoy.config.endpoint.v3 import endpoint_components_pb2 as eds
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import UInt32Value

from mesh.api.peer_authentication import MutualTLSMode
from mesh.registry.types import Endpoint
from mesh.snapshot.peer_authentication import PeerAuthenticationIndex
from mesh.xds.compile import names
from mesh.xds.compile.messages import address


def assignment(
    cluster: str,
    port: int,
    labels: Mapping[str, str],
    endpoints: Iterable[Endpoint],
    policies: PeerAuthenticationIndex,
) -> ClusterLoadAssignment:
    """The cluster's hosts, grouped by locality. `labels` are the subset's; none means all."""
    by_locality: dict[str, list[eds.LbEndpoint]] = {}
    for endpoint in endpoints:
        workload = endpoint.workload
        if endpoint.service_port == port and labels.items() <= workload.labels.items():
            by_locality.setdefault(workload.locality, []).append(_host(endpoint, policies))
    return ClusterLoadAssignment(
        cluster_name=cluster,
        endpoints=[_locality(name, hosts) for name, hosts in sorted(by_locality.items())],
    )


def nothing(cluster: str) -> ClusterLoadAssignment:
    """No hosts; the answer for a cluster that is about to go."""
    return ClusterLoadAssignment(cluster_name=cluster)


def _locality(name: str, hosts: list[eds.LbEndpoint]) -> eds.LocalityLbEndpoints:
    group = eds.LocalityLbEndpoints(lb_endpoints=hosts, load_balancing_weight=UInt32Value(value=len(hosts)))
    if name:
        region, zone, sub_zone = (*name.split("/"), "", "")[:3]
        group.locality.CopyFrom(Locality(region=region, zone=zone, sub_zone=sub_zone))
    return group


def _host(endpoint: Endpoint, policies: PeerAuthenticationIndex) -> eds.LbEndpoint:
    workload = endpoint.workload
    istio = Struct()
    istio.update({"workload": names.peer(workload)})
    metadata = Metadata(filter_metadata={"istio": istio})
    if workload.sidecar and policies.mode(workload, endpoint.port) is not MutualTLSMode.DISABLE:
        metadata.filter_metadata["envoy.transport_socket_match"].update({"tlsMode": "istio"})
    return eds.LbEndpoint(
        endpoint=eds.Endpoint(address=address(workload.address, endpoint.port)),
        metadata=metadata,
        load_balancing_weight=UInt32Value(value=1),
    )
