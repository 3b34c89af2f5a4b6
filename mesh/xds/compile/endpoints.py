"""EDS: the hosts of a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from envoy.config.core.v3.base_pb2 import Locality, Metadata
from envoy.config.endpoint.v3 import endpoint_components_pb2 as eds
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import UInt32Value

from mesh.api.peer_authentication import MutualTLSMode
from mesh.registry.types import Endpoint
from mesh.snapshot.peer_authentication import PeerAuthenticationIndex
from mesh.xds.compile import names
from mesh.xds.compile.locality import Group
from mesh.xds.compile.messages import address


def assignment(cluster: str, groups: Iterable[Group], policies: PeerAuthenticationIndex) -> ClusterLoadAssignment:
    """The cluster's hosts, by priority and locality."""
    return ClusterLoadAssignment(cluster_name=cluster, endpoints=[_locality(group, policies) for group in groups])


def of_names(cluster: str, endpoints: Sequence[Endpoint]) -> ClusterLoadAssignment:
    """Hosts whose names the proxy looks up itself, by locality."""
    localities = sorted({own.workload.locality for own in endpoints})
    groups = ([own for own in endpoints if own.workload.locality == locality] for locality in localities)
    return ClusterLoadAssignment(
        cluster_name=cluster,
        endpoints=[
            eds.LocalityLbEndpoints(
                lb_endpoints=[_named_host(own) for own in group],
                load_balancing_weight=UInt32Value(value=sum(own.workload.weight for own in group)),
                locality=_place(group[0].workload.locality),
            )
            for group in groups
        ],
    )


def nothing(cluster: str) -> ClusterLoadAssignment:
    """No hosts; the answer for a cluster that is about to go."""
    return ClusterLoadAssignment(cluster_name=cluster)


def _locality(group: Group, policies: PeerAuthenticationIndex) -> eds.LocalityLbEndpoints:
    result = eds.LocalityLbEndpoints(
        lb_endpoints=[_host(own, policies) for own in group.endpoints],
        load_balancing_weight=UInt32Value(value=group.weight),
        priority=group.priority,
    )
    if group.locality:
        result.locality.CopyFrom(_place(group.locality))
    return result


def _place(locality: str) -> Locality | None:
    if not locality:
        return None
    region, zone, sub_zone = (*locality.split("/"), "", "")[:3]
    return Locality(region=region, zone=zone, sub_zone=sub_zone)


def _named_host(endpoint: Endpoint) -> eds.LbEndpoint:
    workload = endpoint.workload
    host = eds.LbEndpoint(
        endpoint=eds.Endpoint(address=address(workload.address, endpoint.port)),
        load_balancing_weight=UInt32Value(value=workload.weight),
    )
    if workload.sidecar:
        host.metadata.filter_metadata["envoy.transport_socket_match"].update({"tlsMode": "istio"})
    return host


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
        load_balancing_weight=UInt32Value(value=workload.weight),
    )
