"""RDS virtual hosts of sidecars: one for every HTTP port of every service, and those of VirtualServices alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from envoy.config.route.v3 import route_components_pb2 as rc
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue

from mesh.registry.protocol import Protocol
from mesh.registry.types import CLUSTER_DOMAIN, Service, ServicePort
from mesh.snapshot.virtual_services import BoundVirtualService
from mesh.xds.compile import names
from mesh.xds.compile.destinations import Destinations, hashing
from mesh.xds.compile.matching import Listening
from mesh.xds.compile.routes import default_route, virtual_service_routes

HTTP_DEFAULT_PORT: Final = 80


def speaks_http(port: ServicePort) -> bool:
    """Whether a request through the HTTP proxy may be for this port: it says HTTP, or nothing at all."""
    return port.protocol.is_http or port.protocol is Protocol.UNSUPPORTED


@dataclass(frozen=True, slots=True)
class Reach:
    """By which names a service's virtual host is found: else through the HTTP proxy, where the name says the port.

    `captured`: on the service's own port, which the name may leave out, and by `addresses`. `alone`: nothing but this
    service is behind the listener, whatever the name.
    """

    captured: bool = False
    alone: bool = False
    addresses: tuple[str, ...] = ()


EXPLICIT: Final = Reach()


def service_virtual_host(
    service: Service,
    bound: BoundVirtualService | None,
    at: Listening,
    destinations: Destinations,
    reach: Reach = EXPLICIT,
) -> rc.VirtualHost:
    """The virtual host of one service port: its VirtualService's routes, or one to the service itself.

    A VirtualService without a route for this caller and port is as good as none.
    """
    routes = virtual_service_routes(bound, at, destinations) if bound else []
    own = f"{service.host}:{at.port}"
    return rc.VirtualHost(
        name=own,
        domains=["*"] if reach.alone else list(_service_domains(service, at, reach)),
        routes=routes
        or [
            default_route(
                names.outbound_cluster(at.port, "", service.host),
                own,
                hashing(destinations.rules.get(service.host), "", at.port),
            )
        ],
        include_request_attempt_count=True,
    )


def foreign_virtual_host(
    host: str, bound: BoundVirtualService, at: Listening, destinations: Destinations
) -> rc.VirtualHost | None:
    """The virtual host of a VirtualService's host that is no service, on port 80; None when no route applies."""
    routes = virtual_service_routes(bound, at, destinations)
    if not routes:
        return None
    return rc.VirtualHost(
        name=f"{host}:{at.port}",
        domains=[host, f"{host}:{at.port}"],
        routes=routes,
        include_request_attempt_count=True,
    )


def allow_any() -> rc.VirtualHost:
    """Istio's answer under ALLOW_ANY: captured requests for hosts that nobody knows go where the app meant them to."""
    return rc.VirtualHost(
        name="allow_any",
        domains=["*"],
        routes=[
            rc.Route(
                name="allow_any",
                match=rc.RouteMatch(prefix="/"),
                route=rc.RouteAction(cluster=names.PASSTHROUGH, timeout=Duration()),
            )
        ],
        include_request_attempt_count=True,
    )


def block_all() -> rc.VirtualHost:
    """Istio's answer under REGISTRY_ONLY: 502 for every host nobody knows."""
    return rc.VirtualHost(
        name="block_all",
        domains=["*"],
        routes=[
            rc.Route(
                name="block_all",
                match=rc.RouteMatch(prefix="/"),
                direct_response=rc.DirectResponseAction(status=502),
            )
        ],
    )


def route_configuration(name: str, virtual_hosts: list[rc.VirtualHost] | None = None) -> RouteConfiguration:
    """Clusters are not validated: a route may name one that does not exist, and answers 503 NC then."""
    return RouteConfiguration(name=name, virtual_hosts=virtual_hosts or [], validate_clusters=BoolValue(value=False))


def _service_domains(service: Service, at: Listening, reach: Reach) -> Iterator[str]:
    for host in (*_service_names(service, at, reach), *reach.addresses):
        yield f"{host}:{at.port}"
        if at.port == HTTP_DEFAULT_PORT or reach.captured:
            yield host


def _service_names(service: Service, at: Listening, reach: Reach) -> Iterator[str]:
    name, namespace = service.name, service.namespace
    if service.outside_host:
        # What a ServiceEntry calls as Kubernetes calls a Service has that Service's short names too, as in Istio.
        name = service.host.removesuffix(f".{namespace}.svc.{CLUSTER_DOMAIN}")
        if "." in name or "*" in name:
            yield service.host
            return
    if namespace == at.namespace:
        yield name
    yield from (f"{name}.{namespace}", f"{name}.{namespace}.svc", service.host)
    if reach.captured and service.headless:
        yield f"*.{service.host}"  # its pods by their own names
