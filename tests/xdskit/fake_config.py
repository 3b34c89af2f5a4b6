"""A configuration for streams, made of names and contents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.endpoint.v3.endpoint_components_pb2 import LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import GenericSecret, Secret
from google.protobuf.message import Message

from mesh.xds.resource import Layer, Resource, ResourceSet, encode
from mesh.xds.types import XdsType

CDS, EDS, LDS, RDS, SDS = XdsType.CDS, XdsType.EDS, XdsType.LDS, XdsType.RDS, XdsType.SDS


def resource(type_: XdsType, name: str, content: str, wants: tuple[str, ...] = ()) -> Resource:
    """A resource whose version follows from `content`; of endpoints, from its length."""
    messages: dict[XdsType, Message] = {
        CDS: Cluster(name=name, alt_stat_name=content),
        EDS: ClusterLoadAssignment(cluster_name=name, endpoints=[LocalityLbEndpoints(priority=len(content))]),
        LDS: Listener(name=name, stat_prefix=content),
        SDS: Secret(name=name, generic_secret=GenericSecret(secret=DataSource(inline_string=content))),
        RDS: RouteConfiguration(name=name, response_headers_to_remove=[content]),
    }
    return encode(type_, name, messages[type_], wants)


@dataclass
class FakeConfig:
    """What a proxy is to have, by name and content. A cluster wants endpoints, a listener the routes `r`."""

    resource_version: int
    c: Mapping[str, str]
    e: Mapping[str, str] = field(default_factory=dict)
    l: Mapping[str, str] = field(default_factory=lambda: {"l": "1"})  # noqa: E741
    r: Mapping[str, str] = field(default_factory=lambda: {"r": "1"})

    on_demand: bool = False
    s: Mapping[str, str] = field(default_factory=dict)

    @property
    def clusters(self) -> ResourceSet:
        return ResourceSet(CDS, Layer(resource(CDS, name, content, (name,)) for name, content in self.c.items()))

    @property
    def listeners(self) -> ResourceSet:
        return ResourceSet(LDS, Layer(resource(LDS, name, content, ("r",)) for name, content in self.l.items()))

    def endpoints(self, cluster: str) -> Resource | None:
        return resource(EDS, cluster, self.e.get(cluster, "")) if cluster in self.c else None

    def no_endpoints(self, cluster: str) -> Resource:
        return resource(EDS, cluster, "none")

    @property
    def secret_names(self) -> frozenset[str]:
        return frozenset(self.s)

    def secrets(self, name: str) -> Resource | None:
        return resource(SDS, name, self.s[name]) if name in self.s else None

    def routes(self, name: str) -> Resource | None:
        return resource(RDS, name, self.r[name]) if name in self.r else None
