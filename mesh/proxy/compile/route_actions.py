"""What a route does: forward to a cluster, redirect, or answer directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesh.proxy.compile import destinations, durations, hash_policy, mirrors, redirects, retries
from mesh.proxy.compile.headers import Levels
from mesh.proxy.compile.upgrades import ends_connect, upgrades
from mesh.proxy.compile.values import replacer, seconds_or, value_or
from mesh.proxy.fields import Place
from mesh.proxy.http.request_head import expected_timeout
from mesh.proxy.http.route import DirectResponse, Forward, Redirect
from mesh.proxy.http1.head import RequestHead

SUPPORTED = {
    "envoy.config.route.v3.RouteAction": frozenset(
        ("cluster", "cluster_header", "weighted_clusters", "cluster_not_found_response_code", "prefix_rewrite",
         "regex_rewrite", "host_rewrite_literal", "auto_host_rewrite", "host_rewrite_header",
         "host_rewrite_path_regex", "append_x_forwarded_host", "timeout", "idle_timeout", "priority",
         "retry_policy", "hash_policy", "request_mirror_policies", "upgrade_configs", "max_stream_duration",
         "max_grpc_timeout", "grpc_timeout_offset", "rate_limits", "include_vh_rate_limits")
    ),
    "envoy.config.route.v3.RouteAction.UpgradeConfig": frozenset(("upgrade_type", "enabled", "connect_config")),
    "envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig": frozenset(),
    **destinations.SUPPORTED,
    **durations.SUPPORTED,
    **hash_policy.SUPPORTED,
    **mirrors.SUPPORTED,
    **redirects.SUPPORTED,
    **retries.SUPPORTED,
}  # fmt: skip
_HIGH = 1  # RoutingPriority
_NOT_FOUND = {0: 503, 1: 404, 2: 500}


def compile_action(
    route: Any, host: Any, config: Any, edits: Levels, place: Place
) -> Forward | Redirect | DirectResponse:
    """The action of a Route within its VirtualHost and RouteConfiguration. Raises Refused."""
    kind = route.WhichOneof("action")
    if kind == "route":
        return _forward(route, host, config, edits, place.at("route"))
    if kind == "redirect":
        return redirects.redirect(route.redirect, route.match, place.at("redirect"))
    if kind == "direct_response":
        return redirects.direct_response(route.direct_response, config, place.at("direct_response"))
    raise place.refuse("one of route, redirect, direct_response is required")


def _forward(route: Any, host: Any, config: Any, edits: Levels, place: Place) -> Forward:
    action = route.route
    key = hash_policy.hash_key(action.hash_policy, place)
    only, pick, names = destinations.clusters(action, key, edits, place)
    mirrored = action.request_mirror_policies or host.request_mirror_policies or config.request_mirror_policies
    policy = action.retry_policy if action.HasField("retry_policy") else host.retry_policy
    idle = seconds_or(action, "idle_timeout", -1.0)
    timeout, retry = seconds_or(action, "timeout", 15.0), retries.retry_policy(policy, place.at("retry_policy"))
    rewrite_path, host_rewrite = redirects.path_rewrite(action, route.match, place), _host_rewrite(action, place)
    return Forward(
        only=only,
        pick=pick,
        names=names | {policy.cluster for policy in mirrored if policy.cluster},
        timeout=timeout,
        idle_timeout=None if idle < 0 else idle,
        retry=retry,
        rewrite_path=rewrite_path,
        host_rewrite=host_rewrite,
        auto_host_rewrite=value_or(action, "auto_host_rewrite", False),
        append_x_forwarded_host=action.append_x_forwarded_host,
        max_duration=durations.max_duration(action),
        grpc_timeout=durations.grpc_timeout(action),
        ends_connect=ends_connect(action.upgrade_configs),
        upgrades=upgrades(action.upgrade_configs, place),
        is_high_priority=action.priority == _HIGH,
        no_cluster_status=_NOT_FOUND[action.cluster_not_found_response_code],
        expected_timeout=expected_timeout(timeout, retry),
        rewrites=rewrite_path is not None or host_rewrite is not None,
        hash_key=key,
        mirrors=mirrors.mirror_policies(mirrored, place),
    )


def _host_rewrite(action: Any, place: Place) -> Callable[[RequestHead], bytes | None] | None:
    kind = action.WhichOneof("host_rewrite_specifier")
    if kind == "host_rewrite_literal" and action.host_rewrite_literal:
        literal = action.host_rewrite_literal.encode()
        return lambda head: literal
    if kind == "host_rewrite_header":
        name = action.host_rewrite_header.lower().encode()
        return lambda head: head.get(name)
    if kind == "host_rewrite_path_regex":
        rewrite = replacer(action.host_rewrite_path_regex, place.at("host_rewrite_path_regex"))
        return lambda head: rewrite(head.target.partition(b"?")[0])
    return None
