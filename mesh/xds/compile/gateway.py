"""LDS and RDS of an ingress gateway, from the Gateways that select it and the VirtualServices bound to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from envoy.config.core.v3.base_pb2 import OUTBOUND
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import AdditionalAddress, Listener
from envoy.config.route.v3 import route_components_pb2 as rc
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from mesh.registry.types import Workload
from mesh.snapshot.order import host_matches, hosts_overlap
from mesh.snapshot.snapshot import MeshSnapshot
from mesh.snapshot.virtual_services import BoundVirtualService
from mesh.xds.compile import names
from mesh.xds.compile.destinations import Destinations, hashing_rules
from mesh.xds.compile.filters import SOURCE, http_filter
from mesh.xds.compile.gateway_servers import BoundServer, TlsChain, tls_chains, tls_filter_chain
from mesh.xds.compile.guard import NO_GUARD, Guard, guard_of
from mesh.xds.compile.inbound import tls_inspector
from mesh.xds.compile.matching import is_catch_all
from mesh.xds.compile.messages import address
from mesh.xds.compile.ports import host_addresses, port_aliases
from mesh.xds.compile.proxy import Engine
from mesh.xds.compile.routes import virtual_service_routes
from mesh.xds.compile.virtual_hosts import route_configuration


@dataclass(frozen=True, slots=True)
class GatewayPort:
    """All servers on one port, with TLS or without. `number` is the Gateway's, `bound` the container's.

    `servers` are those of plain HTTP, `tls` the chains of the others; of both kinds the oldest one's is there. `hosts`
    are `hostPort`s, `guard` the policies of the gateway's own workload.
    """

    number: int
    bound: int
    servers: tuple[BoundServer, ...]
    hosts: tuple[tuple[str, int], ...]
    guard: Guard = NO_GUARD
    tls: tuple[TlsChain, ...] = ()

    @property
    def routed(self) -> Mapping[str, tuple[BoundServer, ...]]:
        """The servers of each route configuration, by its name."""
        plain = {names.gateway_routes(self.bound): self.servers} if self.servers else {}
        return plain | {chain.routes: (chain.server,) for chain in self.tls if chain.routes}


@dataclass(slots=True)
class _Host:
    routes: list[rc.Route] = field(default_factory=list)
    redirects: bool = False


def gateway_ports(snapshot: MeshSnapshot, workload: Workload) -> tuple[GatewayPort, ...]:
    """The ports that the workload's Gateways open. Servers of one port merge."""
    by_number: dict[int, list[BoundServer]] = {}
    for gateway in snapshot.gateways.of(workload):
        bound = snapshot.virtual_services.by_gateway.get(f"{gateway.namespace}/{gateway.name}", ())
        for server in gateway.spec.servers:
            if server.port is not None:
                by_number.setdefault(server.port.number, []).append(BoundServer(gateway, server, bound))
    found = (_gateway_port(snapshot, workload, number, own) for number, own in sorted(by_number.items()))
    return tuple(port for port in found if port.routed or port.tls)


def gateway_listener(name: str, host: str, port: GatewayPort, engine: Engine, trust_domain: str) -> Listener:
    """`0.0.0.0_<port>` by Istio's name, bound to the pod's address `host` and the node's."""
    return Listener(
        name=name,
        address=address(host, port.bound),
        additional_addresses=[AdditionalAddress(address=address(*extra)) for extra in port.hosts],
        traffic_direction=OUTBOUND,
        listener_filters=[tls_inspector()] if port.tls else [],
        filter_chains=list(_filter_chains(f"outbound_{name}", port, engine, trust_domain)),
    )


def _filter_chains(prefix: str, port: GatewayPort, engine: Engine, trust_domain: str) -> Iterator[FilterChain]:
    aliases = port_aliases(port.bound, port.hosts)
    guards = list(port.guard.http_filters(aliases))
    if port.servers:
        routes = names.gateway_routes(port.bound)
        yield FilterChain(filters=[http_filter(prefix, engine, SOURCE, routes, guards, at_gateway=True)])
    network_guards = list(port.guard.network_filters(aliases)) if port.tls else []
    for chain in port.tls:
        yield tls_filter_chain(chain, prefix, engine, trust_domain, guards=guards, network_guards=network_guards)


def gateway_route_configuration(
    name: str, servers: Iterable[BoundServer], port: GatewayPort, destinations: Destinations
) -> RouteConfiguration:
    """A virtual host for each host that servers and VirtualServices share.

    Routes for one host are appended, oldest VirtualService first, those that match everything last.
    """
    hosts: dict[str, _Host] = {}
    for bound in servers:
        for virtual_service in bound.virtual_services:
            _add_routes(hosts, bound, virtual_service, port, destinations)
        if bound.redirects:
            for host in bound.server.hosts:
                hosts.setdefault(host.rpartition("/")[2], _Host()).redirects = True
    virtual_hosts = [_virtual_host(own, host, port) for own, host in sorted(hosts.items())]
    return route_configuration(name, virtual_hosts)


def _gateway_port(snapshot: MeshSnapshot, workload: Workload, number: int, servers: list[BoundServer]) -> GatewayPort:
    """A Service in front of the gateway may map the Gateway's port onto another one of the container."""
    targets = (
        workload.target(port)
        for service in snapshot.selecting.get(workload.key, ())
        for port in service.ports
        if port.number == number
    )
    bound = next((target for target in targets if target is not None), number)
    is_plain = servers[0].is_plain
    own = [server for server in servers if server.is_plain is is_plain]
    return GatewayPort(
        number,
        bound,
        tuple(own) if is_plain else (),
        host_addresses(workload, bound),
        guard_of(snapshot, workload),
        () if is_plain else _tls_chains(snapshot, workload, number, own),
    )


def _tls_chains(
    snapshot: MeshSnapshot, workload: Workload, number: int, servers: list[BoundServer]
) -> tuple[TlsChain, ...]:
    known = {
        host: snapshot.services[host]
        for server in servers
        for bound in server.virtual_services
        for host in bound.destinations
        if host in snapshot.services
    }
    hashing = dict(hashing_rules(known.values(), snapshot.destination_rules, workload.namespace))
    destinations = Destinations(known, hashing)
    return tuple(tls_chains(servers, number, snapshot.credentials, workload.namespace, destinations))


def _add_routes(
    hosts: dict[str, _Host],
    bound: BoundServer,
    virtual_service: BoundVirtualService,
    port: GatewayPort,
    destinations: Destinations,
) -> None:
    at = bound.listening(port.number)
    shared = list(_shared_hosts(bound, virtual_service))
    routes = virtual_service_routes(virtual_service, at, destinations) if shared else []
    for name in shared:
        host = hosts.setdefault(name, _Host())
        host.routes.extend(routes)
        host.redirects |= bound.redirects


def _shared_hosts(bound: BoundServer, virtual_service: BoundVirtualService) -> Iterator[str]:
    """Hosts of the VirtualService that the server lets in; of two overlapping patterns the narrower one."""
    patterns = list(bound.hosts_for(virtual_service.namespace))
    for host in virtual_service.hosts:
        overlapping = [pattern for pattern in patterns if hosts_overlap(pattern, host)]
        if any(host_matches(pattern, host) for pattern in overlapping):
            yield host
        else:
            yield from overlapping


def _virtual_host(name: str, host: _Host, port: GatewayPort) -> rc.VirtualHost:
    return rc.VirtualHost(
        name=f"{name}:{port.number}",
        domains=list(_domains(name, port)),
        routes=sorted(_unshadowed(host.routes), key=lambda route: is_catch_all(route.match)),
        include_request_attempt_count=True,
        require_tls=rc.VirtualHost.ALL if host.redirects else rc.VirtualHost.NONE,
    )


def _unshadowed(routes: Iterable[rc.Route]) -> Iterator[rc.Route]:
    """Of several routes that match everything, only the first (the oldest VirtualService's) can be reached."""
    caught = False
    for route in routes:
        catch_all = is_catch_all(route.match)
        if not (catch_all and caught):
            yield route
        caught |= catch_all


def _domains(host: str, port: GatewayPort) -> Iterator[str]:
    """Any port of an exact host; Envoy allows no second wildcard, so a `*.host` names the ports it is reached by."""
    yield host
    if host == "*":
        return
    if not host.startswith("*"):
        yield f"{host}:*"
        return
    for number in dict.fromkeys((port.number, port.bound, *(number for _, number in port.hosts))):
        yield f"{host}:{number}"
