"""LDS and RDS of an ingress gateway, from the Gateways that select it and the VirtualServices bound to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from envoy.config.core.v3.base_pb2 import OUTBOUND
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import AdditionalAddress, Listener
from envoy.config.route.v3 import route_components_pb2 as rc
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from mesh.api.gateway import Gateway, Server
from mesh.registry.types import Workload
from mesh.snapshot.order import host_matches, hosts_overlap
from mesh.snapshot.snapshot import MeshSnapshot
from mesh.snapshot.virtual_services import BoundVirtualService
from mesh.xds.compile import names
from mesh.xds.compile.destinations import Destinations
from mesh.xds.compile.filters import SOURCE, http_filter
from mesh.xds.compile.guard import NO_GUARD, Guard, guard_of
from mesh.xds.compile.matching import Listening, is_catch_all
from mesh.xds.compile.messages import address
from mesh.xds.compile.ports import host_addresses, port_aliases
from mesh.xds.compile.proxy import Engine
from mesh.xds.compile.routes import virtual_service_routes
from mesh.xds.compile.virtual_hosts import route_configuration

_HTTP: Final = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB"})


@dataclass(frozen=True, slots=True)
class BoundServer:
    """A Gateway's server and the VirtualServices bound to that Gateway, oldest first."""

    gateway: Gateway
    server: Server
    virtual_services: tuple[BoundVirtualService, ...]

    @property
    def gateway_name(self) -> str:
        return f"{self.gateway.namespace}/{self.gateway.name}"

    @property
    def redirects(self) -> bool:
        return self.server.tls is not None and self.server.tls.https_redirect


@dataclass(frozen=True, slots=True)
class GatewayPort:
    """All HTTP servers on one port. `number` is the Gateway's, `bound` the container's; `hosts` are `hostPort`s.

    `guard` are the policies of the gateway's own workload.
    """

    number: int
    bound: int
    servers: tuple[BoundServer, ...]
    hosts: tuple[tuple[str, int], ...]
    guard: Guard = NO_GUARD


@dataclass(slots=True)
class _Host:
    routes: list[rc.Route] = field(default_factory=list)
    redirects: bool = False


def gateway_ports(snapshot: MeshSnapshot, workload: Workload) -> tuple[GatewayPort, ...]:
    """The ports that the workload's Gateways open. Servers of one port merge; only HTTP ones are compiled."""
    by_number: dict[int, list[BoundServer]] = {}
    for gateway in snapshot.gateways.of(workload):
        bound = snapshot.virtual_services.by_gateway.get(f"{gateway.namespace}/{gateway.name}", ())
        for server in gateway.spec.servers:
            if server.port is not None and server.port.protocol.upper() in _HTTP:
                by_number.setdefault(server.port.number, []).append(BoundServer(gateway, server, bound))
    return tuple(_gateway_port(snapshot, workload, number, own) for number, own in sorted(by_number.items()))


def gateway_listener(name: str, host: str, port: GatewayPort, engine: Engine) -> Listener:
    """`0.0.0.0_<port>` by Istio's name, bound to the pod's address `host` and the node's."""
    routes = names.gateway_routes(port.bound)
    guards = list(port.guard.http_filters(port_aliases(port.bound, port.hosts)))
    return Listener(
        name=name,
        address=address(host, port.bound),
        additional_addresses=[AdditionalAddress(address=address(*extra)) for extra in port.hosts],
        traffic_direction=OUTBOUND,
        filter_chains=[FilterChain(filters=[http_filter(f"outbound_{name}", engine, SOURCE, routes, guards)])],
    )


def gateway_route_configuration(port: GatewayPort, destinations: Destinations) -> RouteConfiguration:
    """A virtual host for each host that servers and VirtualServices share.

    Routes for one host are appended, oldest VirtualService first, those that match everything last.
    """
    hosts: dict[str, _Host] = {}
    for bound in port.servers:
        for virtual_service in bound.virtual_services:
            _add_routes(hosts, bound, virtual_service, port, destinations)
        if bound.redirects:
            for host in bound.server.hosts:
                hosts.setdefault(host.rpartition("/")[2], _Host()).redirects = True
    virtual_hosts = [_virtual_host(name, host, port) for name, host in sorted(hosts.items())]
    return route_configuration(names.gateway_routes(port.bound), virtual_hosts)


def _gateway_port(snapshot: MeshSnapshot, workload: Workload, number: int, servers: list[BoundServer]) -> GatewayPort:
    """A Service in front of the gateway may map the Gateway's port onto another one of the container."""
    targets = (
        workload.target(port)
        for service in snapshot.selecting.get(workload.key, ())
        for port in service.ports
        if port.number == number
    )
    bound = next((target for target in targets if target is not None), number)
    return GatewayPort(number, bound, tuple(servers), host_addresses(workload, bound), guard_of(snapshot, workload))


def _add_routes(
    hosts: dict[str, _Host],
    bound: BoundServer,
    virtual_service: BoundVirtualService,
    port: GatewayPort,
    destinations: Destinations,
) -> None:
    at = Listening(port.number, frozenset({bound.gateway_name}), bound.gateway.namespace, frozenset())
    shared = list(_shared_hosts(bound, virtual_service))
    routes = virtual_service_routes(virtual_service, at, destinations) if shared else []
    for name in shared:
        host = hosts.setdefault(name, _Host())
        host.routes.extend(routes)
        host.redirects |= bound.redirects


def _shared_hosts(bound: BoundServer, virtual_service: BoundVirtualService) -> Iterator[str]:
    """Hosts of the VirtualService that the server lets in; of two overlapping patterns the narrower one."""
    patterns = list(_server_hosts(bound, virtual_service.namespace))
    for host in virtual_service.hosts:
        overlapping = [pattern for pattern in patterns if hosts_overlap(pattern, host)]
        if any(host_matches(pattern, host) for pattern in overlapping):
            yield host
        else:
            yield from overlapping


def _server_hosts(bound: BoundServer, namespace: str) -> Iterator[str]:
    """The server's hosts for VirtualServices of a namespace: `ns/host`, `*/host`, `./host` or just `host`."""
    for entry in bound.server.hosts:
        scope, _, host = entry.rpartition("/")
        if scope in ("", "*", namespace) or (scope == "." and namespace == bound.gateway.namespace):
            yield host


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
