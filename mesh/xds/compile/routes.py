"""The routes of one VirtualService at one port, in the order they are tried."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Final

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.route.v3 import route_components_pb2 as rc
from envoy.type.matcher.v3.regex_pb2 import RegexMatchAndSubstitute, RegexMatcher
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from mesh.api import virtual_service as api
from mesh.api.destination_rule import ConsistentHashLB
from mesh.snapshot.virtual_services import BoundVirtualService
from mesh.xds.compile.cors import cors_policy
from mesh.xds.compile.destinations import Destinations, hash_policy
from mesh.xds.compile.faults import http_fault
from mesh.xds.compile.header_edits import HeaderEdits, header_edits
from mesh.xds.compile.matching import Listening, applies, is_catch_all, route_match
from mesh.xds.compile.messages import duration, packed
from mesh.xds.compile.mirrors import mirror_policies
from mesh.xds.compile.retries import retry_policy

SPLIT_HEADER: Final = "meshdrill.dev/split-header"
DEFAULT_ROUTE: Final = "default"
_CORS: Final = "envoy.filters.http.cors"
_FAULT: Final = "envoy.filters.http.fault"
_REDIRECTS: Final = {
    0: rc.RedirectAction.MOVED_PERMANENTLY,
    301: rc.RedirectAction.MOVED_PERMANENTLY,
    302: rc.RedirectAction.FOUND,
    303: rc.RedirectAction.SEE_OTHER,
    307: rc.RedirectAction.TEMPORARY_REDIRECT,
    308: rc.RedirectAction.PERMANENT_REDIRECT,
}


def virtual_service_routes(bound: BoundVirtualService, at: Listening, destinations: Destinations) -> list[rc.Route]:
    """Every route that can match there, up to the first that matches everything."""
    routes: list[rc.Route] = []
    for http in bound.source.spec.http:
        for match in _matches(http, at, bound.namespace):
            route = _route(bound, http, match, at, destinations)
            routes.append(route)
            if is_catch_all(route.match):
                return routes
    return routes


def default_route(cluster: str, operation: str, hashing: ConsistentHashLB | None = None) -> rc.Route:
    """Everything to one cluster, with Istio's defaults: no timeout, the default retries."""
    action = rc.RouteAction(cluster=cluster, timeout=Duration(), retry_policy=retry_policy(None))
    _hash(action, hashing)
    return rc.Route(
        name=DEFAULT_ROUTE,
        match=rc.RouteMatch(prefix="/"),
        route=action,
        decorator=rc.Decorator(operation=f"{operation}/*"),
    )


def _matches(http: api.HTTPRoute, at: Listening, namespace: str) -> Iterator[api.HTTPMatchRequest | None]:
    if not http.match:
        yield None
    yield from (match for match in http.match if applies(match, at, namespace))


def _route(
    bound: BoundVirtualService,
    http: api.HTTPRoute,
    match: api.HTTPMatchRequest | None,
    at: Listening,
    destinations: Destinations,
) -> rc.Route:
    route = rc.Route(name=_name(http, match), match=route_match(match))
    edits = header_edits(http.headers)
    _edit(route, edits)
    if http.redirect is not None:
        route.redirect.CopyFrom(_redirect(http.redirect, at.port))
    elif http.direct_response is not None:
        route.direct_response.CopyFrom(_direct_response(http.direct_response))
    else:
        _forward(route, bound, http, at, destinations)
        if edits.authority:
            route.route.host_rewrite_literal = edits.authority
    if http.cors_policy is not None:
        route.typed_per_filter_config[_CORS].CopyFrom(packed(cors_policy(http.cors_policy)))
    if http.fault is not None:
        route.typed_per_filter_config[_FAULT].CopyFrom(packed(http_fault(http.fault)))
    return route


def _name(http: api.HTTPRoute, match: api.HTTPMatchRequest | None) -> str:
    """Istio joins the names of route and match."""
    return ".".join(name for name in (http.name, match.name if match else "") if name)


def _forward(
    route: rc.Route, bound: BoundVirtualService, http: api.HTTPRoute, at: Listening, destinations: Destinations
) -> None:
    action = route.route
    action.timeout.CopyFrom(duration(http.timeout) if http.timeout else Duration())
    policy = retry_policy(http.retries)
    if policy is not None:
        action.retry_policy.CopyFrom(policy)
    if http.rewrite is not None:
        _rewrite(action, http.rewrite)
    action.request_mirror_policies.extend(mirror_policies(http, bound.namespace, at.port, destinations))
    entries = _weighted(http.route)
    for entry in entries:
        _hash(action, destinations.hashing(entry.destination, bound.namespace, at.port))
    if len(entries) == 1:
        only = entries[0]
        action.cluster = destinations.cluster(only.destination, bound.namespace, at.port)
        edits = header_edits(only.headers)
        _edit(route, edits)
        if edits.authority:
            action.host_rewrite_literal = edits.authority
        return
    for entry in entries:
        name = destinations.cluster(entry.destination, bound.namespace, at.port)
        _add_cluster(action.weighted_clusters, name, entry)
    split_header = bound.source.metadata.annotations.get(SPLIT_HEADER)
    if split_header:
        action.weighted_clusters.header_name = split_header


def _hash(action: rc.RouteAction, hashing: ConsistentHashLB | None) -> None:
    """One policy for each destination that hashes, as Istio does; a proxy combines them."""
    policy = hash_policy(hashing) if hashing is not None else None
    if policy is not None:
        action.hash_policy.append(policy)


def _weighted(entries: tuple[api.HTTPRouteDestination, ...]) -> list[api.HTTPRouteDestination]:
    """A single destination gets everything, whatever its weight; else those of weight zero get nothing."""
    return list(entries) if len(entries) == 1 else [entry for entry in entries if entry.weight > 0]


def _add_cluster(weighted: rc.WeightedCluster, name: str, entry: api.HTTPRouteDestination) -> None:
    cluster = weighted.clusters.add(name=name, weight=UInt32Value(value=entry.weight))
    edits = header_edits(entry.headers)
    _edit(cluster, edits)
    if edits.authority:
        cluster.host_rewrite_literal = edits.authority


def _edit(target: rc.Route | rc.WeightedCluster.ClusterWeight, edits: HeaderEdits) -> None:
    target.request_headers_to_add.extend(edits.request_add)
    target.request_headers_to_remove.extend(edits.request_remove)
    target.response_headers_to_add.extend(edits.response_add)
    target.response_headers_to_remove.extend(edits.response_remove)


def _rewrite(action: rc.RouteAction, rewrite: api.HTTPRewrite) -> None:
    if rewrite.uri_regex_rewrite is not None:
        regex = rewrite.uri_regex_rewrite
        action.regex_rewrite.CopyFrom(
            RegexMatchAndSubstitute(pattern=RegexMatcher(regex=regex.match), substitution=regex.rewrite)
        )
    elif rewrite.uri:
        action.prefix_rewrite = rewrite.uri
    if rewrite.authority:
        action.host_rewrite_literal = rewrite.authority


def _redirect(redirect: api.HTTPRedirect, port: int) -> rc.RedirectAction:
    """`derivePort` is decided here: routes are compiled for one port, and that is the request's."""
    action = rc.RedirectAction(host_redirect=redirect.authority, response_code=_REDIRECTS[redirect.redirect_code])
    if redirect.uri:
        action.path_redirect = redirect.uri
    if redirect.scheme:
        action.scheme_redirect = redirect.scheme
    if redirect.port is not None:
        action.port_redirect = redirect.port
    elif redirect.derive_port is api.RedirectPortSelection.FROM_REQUEST_PORT:
        action.port_redirect = port
    return action


def _direct_response(response: api.HTTPDirectResponse) -> rc.DirectResponseAction:
    action = rc.DirectResponseAction(status=response.status)
    if response.body is not None and response.body.string is not None:
        action.body.CopyFrom(DataSource(inline_string=response.body.string))
    elif response.body is not None and response.body.bytes is not None:
        action.body.CopyFrom(DataSource(inline_bytes=base64.b64decode(response.body.bytes)))
    return action
