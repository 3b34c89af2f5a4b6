"""VirtualService: Istio's ValidateVirtualService."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.api.virtual_service import (
    Destination,
    HTTPRouteDestination,
    L4MatchAttributes,
    RouteDestination,
    TCPRoute,
    TLSMatchAttributes,
    TLSRoute,
    VirtualService,
    VirtualServiceSpec,
)
from mesh.config.rules.checks import (
    Place,
    check_cidr,
    check_export_to,
    check_gateway_names,
    check_host,
    check_labels,
    check_non_negative,
    check_port,
    check_subset_name,
    is_address,
    is_host,
)
from mesh.config.rules.http_route import check_header_operations, check_http_route

MESH_GATEWAY = "mesh"
_MOST_WEIGHT = 2**32 - 1


def check_virtual_service(resource: VirtualService, at: Place) -> None:
    """`at` is the place of `spec`."""
    spec = resource.spec
    for_mesh = not spec.gateways or MESH_GATEWAY in spec.gateways
    if not spec.hosts:
        _check_delegate(spec, at)
    _check_hosts(spec.hosts, for_mesh, at / "hosts")
    check_gateway_names(spec.gateways, at / "gateways")
    check_export_to(spec.export_to, resource.namespace, at / "exportTo")
    if not (spec.http or spec.tcp or spec.tls):
        at.refuse("must have http, tcp or tls routes")
    for index, http in enumerate(spec.http):
        place = at / "http" / index
        check_http_route(http, place)
        for number, target in enumerate(http.route):
            check_header_operations(target.headers, place / "route" / number / "headers")
        _check_weights(http.route, place / "route")
        for number, mirrored in enumerate(http.mirrors):
            _check_destination(mirrored.destination, place / "mirrors" / number / "destination")
        if http.mirror:
            _check_destination(http.mirror, place / "mirror")
    for index, tcp in enumerate(spec.tcp):
        _check_tcp_route(tcp, at / "tcp" / index)
    for index, tls in enumerate(spec.tls):
        _check_tls_route(tls, spec.hosts, at / "tls" / index)


def _check_delegate(spec: VirtualServiceSpec, at: Place) -> None:
    """Without hosts it is one that others delegate to, and has nothing but routes for HTTP."""
    if not spec.http:
        at.refuse("must have at least one host; without any it is to be delegated to, which needs http routes")
    for name, given in (("gateways", spec.gateways), ("tcp", spec.tcp), ("tls", spec.tls)):
        if given:
            (at / name).refuse("must be left out where there are no hosts: the VirtualService is to be delegated to")
    for index, route in enumerate(spec.http):
        if route.delegate is not None:
            (at / "http" / index / "delegate").refuse("a VirtualService without hosts cannot delegate once more")


def _check_hosts(hosts: Sequence[str], for_mesh: bool, at: Place) -> None:
    for index, host in enumerate(hosts):
        if host == "*" and for_mesh:
            (at / index).refuse('the host "*" is not allowed for the sidecars of the mesh; name a gateway or the hosts')
        elif not is_address(host):
            check_host(host, at / index)
        for earlier in hosts[:index]:
            if earlier == host:
                (at / index).refuse(f'the host "{host}" is given twice')
            elif covers(earlier, host) or covers(host, earlier):
                (at / index).refuse(f'the hosts "{earlier}" and "{host}" overlap')


def covers(pattern: str, host: str) -> bool:
    """Whether a wildcard host holds all of another: `*.com` covers `a.com` and `*.a.com`; nothing covers itself."""
    return pattern.startswith("*") and pattern != host and host.endswith(pattern[1:])


def _check_destination(destination: Destination, at: Place) -> None:
    if destination.host == "*":
        (at / "host").refuse('"*" is not a destination; name a service')
    else:
        check_host(destination.host, at / "host")
    if destination.subset:
        check_subset_name(destination.subset, at / "subset")
    if destination.port is not None:
        check_port(destination.port.number, at / "port" / "number")


def _check_weights(targets: Sequence[HTTPRouteDestination | RouteDestination], at: Place) -> None:
    for index, target in enumerate(targets):
        _check_destination(target.destination, at / index / "destination")
        check_non_negative(target.weight, at / index / "weight")
    total = sum(target.weight for target in targets)
    if len(targets) > 1 and total == 0:
        at.refuse("the weights of several destinations add up to 0; give at least one a weight")
    if total > _MOST_WEIGHT:
        at.refuse(f"the weights add up to {total}; a proxy takes at most {_MOST_WEIGHT}")


def _check_tcp_route(route: TCPRoute, at: Place) -> None:
    for index, match in enumerate(route.match):
        _check_l4_match(match, at / "match" / index)
    if not route.route:
        at.refuse("must have a route")
    _check_weights(route.route, at / "route")


def _check_tls_route(route: TLSRoute, hosts: Sequence[str], at: Place) -> None:
    if not route.match:
        at.refuse("must have at least one match with sniHosts")
    for index, match in enumerate(route.match):
        place = at / "match" / index
        _check_l4_match(match, place)
        if not match.sni_hosts:
            place.refuse("must have at least one of sniHosts")
        for number, sni in enumerate(match.sni_hosts):
            if not is_host(sni):
                check_host(sni, place / "sniHosts" / number)
            elif not any(host == sni or covers(host, sni) for host in hosts):
                (place / "sniHosts" / number).refuse(f'"{sni}" is not among the hosts of this VirtualService')
    if not route.route:
        at.refuse("must have a route")
    _check_weights(route.route, at / "route")


def _check_l4_match(match: L4MatchAttributes | TLSMatchAttributes, at: Place) -> None:
    for index, subnet in enumerate(match.destination_subnets):
        check_cidr(subnet, at / "destinationSubnets" / index)
    if isinstance(match, L4MatchAttributes) and match.source_subnet:
        check_cidr(match.source_subnet, at / "sourceSubnet")
    if match.port:
        check_port(match.port, at / "port")
    check_labels(match.source_labels, at / "sourceLabels")
    check_gateway_names(match.gateways, at / "gateways")
