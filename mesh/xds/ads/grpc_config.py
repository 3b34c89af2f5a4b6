"""What a gRPC client is to have: what it asks for by name, made when it asks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from mesh.registry.types import CLUSTER_DOMAIN, service_host
from mesh.xds.compile import grpc_client, names
from mesh.xds.compile.locality import Caller
from mesh.xds.compile.parts import VirtualHostPart, endpoints_part, service_virtual_host_part
from mesh.xds.compile.proxy import Sight
from mesh.xds.compile.virtual_hosts import HTTP_DEFAULT_PORT
from mesh.xds.resource import Layer, Resource, ResourceSet, encode
from mesh.xds.types import XdsType

if TYPE_CHECKING:
    from mesh.xds.ads.catalog import Catalog


class OnDemand(ResourceSet):
    """Resources that `find` makes by name. There is no whole of them: who asks for everything gets nothing."""

    __slots__ = ("_find",)

    def __init__(self, type_: XdsType, version: str, find: Callable[[str], Resource | None]) -> None:
        super().__init__(type_)
        self.version = version
        self._find = find

    def only(self, names: Collection[str]) -> ResourceSet:
        found = (self._find(name) for name in sorted(names))
        return ResourceSet(self.type, Layer(own for own in found if own is not None))


class GrpcConfig:
    """Good until the catalog shows another snapshot, as `ProxyConfig` is."""

    on_demand = True
    secret_names: frozenset[str] = frozenset()

    def __init__(self, catalog: Catalog, sight: Sight, caller: Caller) -> None:
        self._catalog = catalog
        self._snapshot = catalog.snapshot
        self._sight = sight
        self._caller = caller
        self.resource_version = self._snapshot.resource_version
        generation = str(self._snapshot.config_generation)
        self.clusters: ResourceSet = OnDemand(XdsType.CDS, generation, self._cluster)
        self.listeners: ResourceSet = OnDemand(XdsType.LDS, generation, self._listener)

    def endpoints(self, cluster: str) -> Resource | None:
        part = self._catalog.cluster_part(self._sight.namespace, cluster)
        if part is None:
            return None
        whole = endpoints_part(self._snapshot, part, part.spread(self._caller))
        key = "gRPC EDS", cluster, *whole.key
        return self._catalog.compiled.get(
            key, whole, lambda: encode(XdsType.EDS, cluster, grpc_client.endpoints(whole))
        )

    def no_endpoints(self, cluster: str) -> Resource:
        return self._catalog.no_endpoints(cluster)

    def routes(self, name: str) -> Resource | None:
        """Of a service's port, by the name of its cluster."""
        _, _, address = name.partition("|")
        number, _, host = address.partition("||")
        part = self._virtual_host(host, int(number)) if number.isdecimal() else None
        if part is None:
            return None
        source = part.bound.namespace if part.bound else ""
        return self._catalog.compiled.get(
            ("gRPC RDS", name, source, part.at), part, lambda: encode(XdsType.RDS, name, grpc_client.routes(name, part))
        )

    def secrets(self, name: str) -> Resource | None:
        """gRPC has certificates from files."""
        return None

    def _listener(self, target: str) -> Resource | None:
        """Of a channel's target: a service's name, whole or as short as HTTP clients may say it, and a port."""
        host, _, number = target.partition(":")
        port = int(number) if number.isdecimal() else HTTP_DEFAULT_PORT
        known = next((own for own in self._full_names(host) if self._virtual_host(own, port) is not None), None)
        if known is None:
            return None
        routes = names.outbound_cluster(port, "", known)
        return self._catalog.compiled.get(
            ("gRPC LDS", target, routes),
            None,
            lambda: encode(XdsType.LDS, target, grpc_client.listener(target, routes), [routes]),
        )

    def _full_names(self, host: str) -> tuple[str, ...]:
        if "." not in host:
            return (service_host(host, self._sight.namespace),)
        return host, f"{host}.{CLUSTER_DOMAIN}", f"{host}.svc.{CLUSTER_DOMAIN}"

    def _virtual_host(self, host: str, port: int) -> VirtualHostPart | None:
        return service_virtual_host_part(self._snapshot, self._sight, host, port)

    def _cluster(self, name: str) -> Resource | None:
        part = self._catalog.cluster_part(self._sight.namespace, name)
        if part is None:
            return None
        key = "gRPC CDS", name, part.rule.namespace if part.rule else ""
        return self._catalog.compiled.get(
            key, part, lambda: encode(XdsType.CDS, name, grpc_client.cluster(part), [name])
        )
