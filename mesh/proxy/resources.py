"""What the control plane has told us, as one immutable value: the only thing that configures the data path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret


@dataclass(frozen=True, slots=True)
class Resources:
    """Envoy v3 messages by name. Replaced whole at each update; neither the maps nor the messages are ever mutated,
    so an unchanged message is the same object from one update to the next and what was compiled from it can be kept.
    `expected` are clusters that have been accepted and wait for what they refer to: routes may name them already.
    """

    listeners: Mapping[str, Listener] = field(default_factory=dict)
    routes: Mapping[str, RouteConfiguration] = field(default_factory=dict)
    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    endpoints: Mapping[str, ClusterLoadAssignment] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    expected: Mapping[str, Cluster] = field(default_factory=dict)


def differ_in_chains_only(one: Listener, two: Listener) -> bool:
    """Whether a listener may go from one to the other without its other chains' connections noticing."""
    if one is two:
        return True
    pair = Listener(), Listener()
    for copy, original in zip(pair, (one, two), strict=True):
        copy.CopyFrom(original)
        copy.ClearField("filter_chains")
        copy.ClearField("default_filter_chain")
    return pair[0] == pair[1]


class Refused(Exception):
    """A resource that the sidecar cannot honour. Its text is what a NACK says.

    `resource_type` is the message's short name (`Listener`), `field_path` its place inside the resource in the
    notation of protobuf (`filter_chains[0].filters[1].typed_config.rds`), empty for the resource itself.
    """

    def __init__(self, resource_type: str, resource_name: str, field_path: str, reason: str) -> None:
        super().__init__(resource_type, resource_name, field_path, reason)
        self.resource_type = resource_type
        self.resource_name = resource_name
        self.field_path = field_path
        self.reason = reason

    def __str__(self) -> str:
        place = f"{self.field_path}: " if self.field_path else ""
        return f'{self.resource_type} "{self.resource_name}": {place}{self.reason}'
