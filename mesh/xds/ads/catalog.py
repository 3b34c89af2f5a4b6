"""Every proxy's resources for the latest snapshot, compiled once for all that see them identically."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from envoy.config.cluster.v3.cluster_pb2 import Cluster

from mesh.registry.types import Service, Workload, WorkloadKey
from mesh.snapshot.snapshot import MeshSnapshot
from mesh.xds.ads.captured import CapturedResources
from mesh.xds.ads.encoding import encoded_host, same_or_new
from mesh.xds.ads.grpc_config import GrpcConfig
from mesh.xds.ads.memo import Memo
from mesh.xds.ads.touched import Touched
from mesh.xds.compile import clusters, gateway, gateway_servers, jwt, names
from mesh.xds.compile.destinations import Destinations, hashing_rules
from mesh.xds.compile.endpoints import nothing
from mesh.xds.compile.guard import guard_of
from mesh.xds.compile.listeners import ListenerPart, ListeningPort, sidecar_ports
from mesh.xds.compile.locality import Caller
from mesh.xds.compile.outbound import TcpPort
from mesh.xds.compile.parts import (
    ClusterPart,
    VirtualHostPart,
    cluster_parts,
    endpoints_part,
    tcp_ports,
    virtual_host_parts,
)
from mesh.xds.compile.ports import InboundPort, inbound_ports
from mesh.xds.compile.proxy import Engine, Proxy, Role, Sight, caller_of, sight_of
from mesh.xds.compile.virtual_hosts import block_all, route_configuration
from mesh.xds.compile.virtual_listeners import VirtualInbound
from mesh.xds.resource import Layer, Resource, ResourceSet, encode, from_bytes
from mesh.xds.types import XdsType

_NO_RESOURCES = Layer(())


class UnknownWorkloadError(LookupError):
    """The proxy's pod is not in the snapshot."""


@dataclass(frozen=True, slots=True)
class _Namespace:
    """The outbound clusters that clients of a namespace see, and the endpoints compiled so far."""

    layer: Layer
    parts: Mapping[str, ClusterPart]
    endpoints: dict[str, dict[Caller, Resource]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Own:
    """What a proxy has to itself, and what of the snapshot it was made from.

    `clusters` are its inbound ones, and those that only capturing proxies have; `secrets` a gateway's, by name.
    """

    generation: int
    workload: Workload
    services: tuple[Service, ...]
    clusters: Layer
    listeners: ResourceSet
    gateways: tuple[gateway.GatewayPort, ...]
    captures: bool
    secrets: Mapping[str, Resource]


class ProxyConfig:
    """What one proxy is to be sent. Good until the catalog shows another snapshot; then ask for another one."""

    __slots__ = ("_caller", "_catalog", "_own", "_sight", "clusters", "resource_version")

    on_demand = False

    def __init__(self, catalog: Catalog, sight: Sight, caller: Caller, own: _Own) -> None:
        self._catalog = catalog
        self._sight = sight
        self._caller = caller
        self._own = own
        self.resource_version = catalog.snapshot.resource_version
        self.clusters = ResourceSet(XdsType.CDS, catalog.outbound_clusters(sight.namespace), own.clusters)

    @property
    def listeners(self) -> ResourceSet:
        return self._own.listeners

    def endpoints(self, cluster: str) -> Resource | None:
        """Hosts of a cluster; None if there is none of that name now."""
        return self._catalog.endpoints(self._sight.namespace, cluster, self._caller)

    def no_endpoints(self, cluster: str) -> Resource:
        """The answer for a cluster that nobody knows."""
        return self._catalog.no_endpoints(cluster)

    def routes(self, name: str) -> Resource | None:
        """A route configuration; None if this proxy has none of that name."""
        if self._own.captures:
            return self._catalog.captured_routes(self._sight, name)
        if name == names.HTTP_PROXY and self._sight.role is Role.SIDECAR:
            return self._catalog.http_proxy_routes(self._sight)
        for port in self._own.gateways:
            if servers := port.routed.get(name):
                return self._catalog.gateway_routes(port, name, servers)
        return None

    @property
    def secret_names(self) -> frozenset[str]:
        return frozenset(self._own.secrets)

    def secrets(self, name: str) -> Resource | None:
        """Keys for a gateway of the Secret's own namespace, which a Gateway that selects it names; nobody else's."""
        return self._own.secrets.get(name)


class Catalog:
    """Compiles on demand and remembers. Shows one snapshot at a time."""

    def __init__(self, snapshot: MeshSnapshot) -> None:
        self.snapshot = snapshot
        self.compiled: Memo[Resource] = Memo()
        self._hosts: Memo[bytes] = Memo()
        self._own: dict[Proxy, _Own] = {}
        self._namespaces: dict[str, _Namespace] = {}
        self._former_layers: dict[str, Layer] = {}
        self._routes: dict[Sight, Resource] = {}
        self._tcp_ports: dict[Sight, tuple[TcpPort, ...]] = {}
        self._captured = CapturedResources(self._virtual_host, self._listener)

    def show(self, snapshot: MeshSnapshot) -> Touched:
        """Compile from `snapshot` from now on; returns what may differ from the one before."""
        former, self.snapshot = self.snapshot, snapshot
        if snapshot.config_generation == former.config_generation:
            return Touched(self._touched_clusters(former), routes=False)
        self._routes.clear()
        self._tcp_ports.clear()
        self._captured.clear()
        self.compiled.advance()
        self._hosts.advance()
        if _same(former, snapshot, "services", "accounts", "destination_rules", "peer_authentication"):
            return Touched(self._touched_clusters(former), routes=True)
        self._former_layers = {name: known.layer for name, known in self._namespaces.items()}
        self._namespaces.clear()
        return Touched(None, routes=True)

    def config(self, proxy: Proxy) -> ProxyConfig | GrpcConfig:
        """What this proxy is to have now. Raises UnknownWorkloadError when its pod is gone."""
        workload = self.snapshot.workloads.get(proxy.key)
        if workload is None:
            raise UnknownWorkloadError(f"no pod {proxy.key.name} in namespace {proxy.key.namespace}")
        sight, caller = sight_of(proxy, workload, self.snapshot), caller_of(workload, self.snapshot)
        if proxy.engine is Engine.GRPC:
            return GrpcConfig(self, sight, caller)
        return ProxyConfig(self, sight, caller, self._own_of(proxy, sight, workload))

    def forget(self, proxy: Proxy) -> None:
        """The proxy is gone: drop what was its own."""
        self._own.pop(proxy, None)

    def outbound_clusters(self, namespace: str) -> Layer:
        return self._namespace(namespace).layer

    def cluster_part(self, namespace: str, cluster: str) -> ClusterPart | None:
        """What an outbound cluster is made of, for clients of a namespace; None if there is none of that name."""
        return self._namespace(namespace).parts.get(cluster)

    def endpoints(self, namespace: str, cluster: str, caller: Caller) -> Resource | None:
        known = self._namespace(namespace)
        if cluster not in known.parts:
            return None
        by_caller = known.endpoints.setdefault(cluster, {})
        if caller not in by_caller:
            by_caller[caller] = self._endpoints_of(known.parts[cluster], caller)
        return by_caller[caller]

    def no_endpoints(self, cluster: str) -> Resource:
        return self.compiled.get(("EDS", cluster), None, lambda: encode(XdsType.EDS, cluster, nothing(cluster)))

    def http_proxy_routes(self, sight: Sight) -> Resource:
        """Route configuration of the HTTP proxy, joined from the encodings of its virtual hosts."""
        if sight not in self._routes:
            head = route_configuration(names.HTTP_PROXY).SerializeToString(deterministic=True)
            hosts = (self._virtual_host(part) for part in virtual_host_parts(self.snapshot, sight))
            last = encoded_host(block_all()) if self.snapshot.options.registry_only else b""
            self._routes[sight] = from_bytes(XdsType.RDS, names.HTTP_PROXY, b"".join((head, *hosts, last)))
        return self._routes[sight]

    def captured_routes(self, sight: Sight, name: str) -> Resource | None:
        """A route configuration of capturing sidecars; None if there is none of that name."""
        return self._captured.routes(self.snapshot, sight, name)

    def gateway_routes(
        self, port: gateway.GatewayPort, name: str, servers: tuple[gateway_servers.BoundServer, ...]
    ) -> Resource:
        services = self.snapshot.services
        hosts = {host for server in servers for bound in server.virtual_services for host in bound.destinations}
        known = {host: services[host] for host in sorted(hosts) if host in services}
        namespace = servers[0].gateway.namespace
        destinations = Destinations(
            known, dict(hashing_rules(known.values(), self.snapshot.destination_rules, namespace))
        )

        def compile_routes() -> Resource:
            return encode(XdsType.RDS, name, gateway.gateway_route_configuration(name, servers, port, destinations))

        key = "RDS", name, tuple(server.gateway_name for server in servers), port.bound
        return self.compiled.get(key, (port, destinations), compile_routes)

    def _touched_clusters(self, former: MeshSnapshot) -> frozenset[str]:
        old, new = former.endpoints, self.snapshot.endpoints
        if old is new:
            return frozenset()
        hosts = {host for host in old.keys() | new.keys() if old.get(host) is not new.get(host)}
        touched: set[str] = set()
        for known in self._namespaces.values():
            own = {name for name, part in known.parts.items() if part.service.host in hosts}
            for name in own:
                known.endpoints.pop(name, None)
            touched |= own
        return frozenset(touched)

    def _endpoints_of(self, part: ClusterPart, caller: Caller) -> Resource:
        whole = endpoints_part(self.snapshot, part, part.spread(caller))
        key = "EDS", part.name, *whole.key
        return self.compiled.get(key, whole, lambda: encode(XdsType.EDS, part.name, whole.compile()))

    def _namespace(self, namespace: str) -> _Namespace:
        if namespace not in self._namespaces:
            parts = {part.name: part for part in cluster_parts(self.snapshot, namespace)}
            resources = [self._outbound_cluster(part) for part in parts.values()]
            former = self._former_layers.get(namespace, _NO_RESOURCES)
            resources.append(self._fixed(clusters.black_hole()))
            self._namespaces[namespace] = _Namespace(same_or_new(resources, former), parts)
        return self._namespaces[namespace]

    def _outbound_cluster(self, part: ClusterPart) -> Resource:
        key = "CDS", part.name, part.rule.namespace if part.rule else ""
        return self.compiled.get(key, part, lambda: encode(XdsType.CDS, part.name, part.compile(), part.wants))

    def _fixed(self, cluster: Cluster) -> Resource:
        """A cluster that is the same whatever is configured."""
        return self.compiled.get(("CDS", cluster.name), None, lambda: encode(XdsType.CDS, cluster.name, cluster))

    def _virtual_host(self, part: VirtualHostPart) -> bytes:
        """As a field of RouteConfiguration; empty if nothing of it applies."""

        def compile_host() -> bytes:
            host = part.compile()
            if host is None:
                return b""
            return encoded_host(host)

        source = part.bound.namespace if part.bound else ""
        return self._hosts.get((part.name, source, part.at, part.reach), part, compile_host)

    def _own_of(self, proxy: Proxy, sight: Sight, workload: Workload) -> _Own:
        own = self._own.get(proxy)
        services = self.snapshot.selecting.get(workload.key, ())
        if (
            own is None
            or own.generation != self.snapshot.config_generation
            or own.workload is not workload
            or own.services is not services
        ):
            former = own.clusters if own else _NO_RESOURCES
            own = self._own[proxy] = self._make_own(proxy, sight, workload, services, former)
        return own

    def _make_own(
        self, proxy: Proxy, sight: Sight, workload: Workload, services: tuple[Service, ...], former: Layer
    ) -> _Own:
        snapshot = self.snapshot
        gateways: tuple[gateway.GatewayPort, ...] = ()
        inbound: tuple[InboundPort, ...] = ()
        listening: Iterable[ListeningPort]
        layers: list[Layer] = []
        guard = guard_of(snapshot, workload)
        fixed = [self._fixed(cluster) for cluster in jwt.own_clusters(guard.key_sources)]
        if proxy.captures:
            inbound = inbound_ports(snapshot, workload)
            listening = [VirtualInbound(inbound, snapshot.peer_authentication.mode(workload, 0), guard)]
            layers.append(self._captured.listeners(snapshot, sight, proxy.engine))
            fixed += [self._fixed(clusters.passthrough()), self._fixed(clusters.inbound_passthrough())]
        elif proxy.role is Role.ROUTER:
            listening = gateways = gateway.gateway_ports(snapshot, workload)
        else:
            inbound = inbound_ports(snapshot, workload)
            listening = sidecar_ports(workload, inbound, self._tcp_ports_of(sight))
        return _Own(
            generation=snapshot.config_generation,
            workload=workload,
            services=services,
            clusters=same_or_new([*fixed, *(self._inbound_cluster(proxy, port) for port in inbound)], former),
            listeners=ResourceSet(
                XdsType.LDS,
                *layers,
                Layer(self._listener(proxy.key, proxy.engine, workload.address, port) for port in listening),
            ),
            gateways=gateways,
            captures=proxy.captures,
            secrets=self._secrets(workload.namespace, gateways),
        )

    def _secrets(self, namespace: str, ports: Iterable[gateway.GatewayPort]) -> Mapping[str, Resource]:
        chains = [chain for port in ports for chain in port.tls]
        found = gateway_servers.secrets(chains, self.snapshot.credentials, namespace)
        return {own.name: encode(XdsType.SDS, own.name, own) for own in found}

    def _tcp_ports_of(self, sight: Sight) -> tuple[TcpPort, ...]:
        if sight not in self._tcp_ports:
            self._tcp_ports[sight] = tuple(tcp_ports(self.snapshot, sight))
        return self._tcp_ports[sight]

    def _inbound_cluster(self, proxy: Proxy, port: InboundPort) -> Resource:
        name = names.inbound_cluster(port.number)
        compile_ = clusters.captured_inbound if proxy.captures else clusters.inbound
        return self.compiled.get(
            ("CDS", proxy.key, name, proxy.captures), port, lambda: encode(XdsType.CDS, name, compile_(port))
        )

    def _listener(self, owner: WorkloadKey | Sight, engine: Engine, address: str, port: ListeningPort) -> Resource:
        part = ListenerPart(address, port, engine, self.snapshot.options.trust_domain)
        return self.compiled.get(
            ("LDS", owner, engine, part.name),
            part,
            lambda: encode(XdsType.LDS, part.name, part.compile(), part.wants),
        )


def _same(one: MeshSnapshot, other: MeshSnapshot, *fields: str) -> bool:
    """Whether these parts of two snapshots are the very same objects."""
    return all(getattr(one, name) is getattr(other, name) for name in fields)
