"""RouteConfiguration to RouteTable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mesh.proxy.compile import headers, metadata, rate_limits, route_actions, tracing
from mesh.proxy.compile.matchers import circumstances, conditions, path_keys, path_match
from mesh.proxy.compile.values import STRING_MATCHER, value_or
from mesh.proxy.fields import OPAQUE, Place, check
from mesh.proxy.filters import registry
from mesh.proxy.http.route import Forward, ParticularRouteTable, Reading, Route, RouteTable, VirtualHost
from mesh.proxy.http.route_index import WORTH_INDEXING, RouteIndex
from mesh.proxy.policy.rate_limits import RouteRateLimits

SUPPORTED = {
    "envoy.config.route.v3.RouteConfiguration": frozenset(
        ("name", "virtual_hosts", "typed_per_filter_config", "request_headers_to_add", "request_headers_to_remove",
         "response_headers_to_add", "response_headers_to_remove", "validate_clusters",
         "max_direct_response_body_size_bytes", "ignore_port_in_host_matching", "most_specific_header_mutations_wins",
         "metadata", "internal_only_headers", "ignore_path_parameters_in_path_matching", "vhost_header",
         "request_mirror_policies")
    ),
    "envoy.config.route.v3.VirtualHost": frozenset(
        ("name", "domains", "routes", "require_tls", "request_headers_to_add", "request_headers_to_remove",
         "response_headers_to_add", "response_headers_to_remove", "typed_per_filter_config",
         "include_request_attempt_count", "rate_limits", "include_attempt_count_in_response", "retry_policy",
         "per_request_buffer_limit_bytes", "request_body_buffer_limit", "metadata",
         "request_mirror_policies")
    ),
    "envoy.config.route.v3.Route": frozenset(
        ("name", "match", "route", "redirect", "direct_response", "metadata", "decorator", "tracing",
         "typed_per_filter_config", "request_headers_to_add", "request_headers_to_remove", "response_headers_to_add",
         "response_headers_to_remove", "per_request_buffer_limit_bytes", "request_body_buffer_limit")
    ),
    **tracing.ROUTE_SUPPORTED,
    "envoy.config.route.v3.RouteMatch": frozenset(
        ("prefix", "path", "safe_regex", "path_separated_prefix", "case_sensitive", "runtime_fraction", "headers",
         "query_parameters", "grpc", "tls_context", "dynamic_metadata",
         "connect_matcher")
    ),
    "envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions": frozenset(),
    "envoy.config.route.v3.RouteMatch.ConnectMatcher": frozenset(),
    "envoy.config.route.v3.RouteMatch.TlsContextMatchOptions": frozenset(("presented", "validated")),
    "envoy.config.core.v3.RuntimeFractionalPercent": frozenset(("default_value", "runtime_key")),
    "envoy.type.v3.FractionalPercent": frozenset(("numerator", "denominator")),
    "envoy.config.route.v3.HeaderMatcher": frozenset(
        ("name", "exact_match", "safe_regex_match", "range_match", "present_match", "prefix_match", "suffix_match",
         "contains_match", "string_match", "invert_match", "treat_missing_header_as_empty")
    ),
    "envoy.type.v3.Int64Range": frozenset(("start", "end")),
    "envoy.config.route.v3.QueryParameterMatcher": frozenset(("name", "string_match", "present_match")),
    "envoy.config.core.v3.Metadata": OPAQUE,
    **STRING_MATCHER,
    **metadata.SUPPORTED,
    **headers.SUPPORTED,
    **rate_limits.SUPPORTED,
    **route_actions.SUPPORTED,
}  # fmt: skip
_REQUIRES_TLS = {0: "", 1: "EXTERNAL_ONLY", 2: "ALL"}


def compile_routes(config: Any, place: Place, *, is_inline: bool = False) -> RouteTable:
    """A table of its own, or one that `is_inline` in its listener, whose clusters must be there. Raises Refused."""
    check(config, SUPPORTED, place)
    of_config = registry.per_route(config.typed_per_filter_config, place)
    domains: dict[bytes, VirtualHost] = {}
    for index, host in enumerate(config.virtual_hosts):
        inside = place.at(f"virtual_hosts[{index}]")
        compiled = _virtual_host(config, host, inside, place, of_config)
        if not host.domains:
            raise inside.refuse("at least one domain is required", "domains")
        for domain in host.domains:
            key = domain.lower().encode()
            if b"*" in key[1:-1] or key == b"":
                raise inside.refuse(f"bad domain {domain!r}", "domains")
            if key in domains:
                raise inside.refuse(f"domain {domain!r} is in another virtual host too", "domains")
            domains[key] = compiled
    reading = Reading(
        ignores_port=config.ignore_port_in_host_matching,
        cuts_parameters=config.ignore_path_parameters_in_path_matching,
        host_header=config.vhost_header.lower().encode() or None,
        internal_only=frozenset(name.lower().encode() for name in config.internal_only_headers),
    )
    plain = reading == Reading()
    table = RouteTable(config.name, domains) if plain else ParticularRouteTable(config.name, domains, reading)
    if value_or(config, "validate_clusters", is_inline):
        actions = (route.action for host in table.hosts for route in host.routes)
        table.needed = frozenset(name for action in actions if isinstance(action, Forward) for name in action.names)
    return table


def _virtual_host(config: Any, host: Any, place: Place, outer: Place, of_config: Mapping[str, Any]) -> VirtualHost:
    routes = []
    inherited = registry.merged(of_config, registry.per_route(host.typed_per_filter_config, place))
    for index, route in enumerate(host.routes):
        inside = place.at(f"routes[{index}]")
        routes.append(_route(route, [(route, inside), (host, place), (config, outer)], inherited))
    index_of_many = None
    if len(routes) > WORTH_INDEXING:
        keys = [path_keys(route.match) for route in host.routes]
        index_of_many = RouteIndex(list(zip(keys, routes, strict=True)))
    both = zip(routes, host.routes, strict=True)
    connects = tuple(made for made, route in both if route.match.HasField("connect_matcher"))
    return VirtualHost(host.name, tuple(routes), _REQUIRES_TLS[host.require_tls], index_of_many, connects)


def _route(route: Any, levels: list[tuple[Any, Place]], inherited: Mapping[str, Any]) -> Route:
    (_, place), (host, host_place), (config, _) = levels
    switches = registry.switches(level.typed_per_filter_config for level, _ in levels[::-1])
    switched = switches or any(cluster.typed_per_filter_config for cluster in route.route.weighted_clusters.clusters)
    if config.most_specific_header_mutations_wins:
        levels.reverse()
    edits = headers.Levels(
        tuple((level.request_headers_to_add, level.request_headers_to_remove, where) for level, where in levels),
        tuple((level.response_headers_to_add, level.response_headers_to_remove, where) for level, where in levels),
    )
    if not route.HasField("route"):
        headers.header_edit(edits.request)  # a request that goes nowhere has no use for it, but wrong is wrong
    inside = place.at("match")
    return Route(
        name=route.name,
        path=path_match(route.match, inside),
        conditions=conditions(route.match, inside),
        circumstances=circumstances(route.match, inside),
        action=route_actions.compile_action(route, host, config, edits, place),
        response_edit=None if route.HasField("route") else headers.header_edit(edits.response),
        filter_config=registry.merged(inherited, registry.per_route(route.typed_per_filter_config, place)),
        switches=switches if switched else None,
        buffer_limit=_buffer_limit(route, _buffer_limit(host, None)),
        counts_attempts=host.include_request_attempt_count,
        counts_attempts_in_response=host.include_attempt_count_in_response,
        tracing=tracing.route_tracing(route, place),
        rate_limits=_rate_limits(route, host, place, host_place),
    )


def _rate_limits(route: Any, host: Any, place: Place, host_place: Place) -> RouteRateLimits | None:
    own, of_host = route.route.rate_limits, host.rate_limits
    if not own and not of_host:
        return None
    return RouteRateLimits(
        rate_limits.rate_limits(own, place.at("route")),
        rate_limits.rate_limits(of_host, host_place),
        route.route.include_vh_rate_limits.value,
    )


def _buffer_limit(level: Any, outer: int | None) -> int | None:
    old = value_or(level, "per_request_buffer_limit_bytes", outer)
    limit: int | None = value_or(level, "request_body_buffer_limit", old)
    return limit
