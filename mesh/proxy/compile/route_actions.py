"""What a route does: forward to a cluster, redirect, or answer directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesh.proxy.compile import headers
from mesh.proxy.compile.values import regex, seconds, seconds_or, value_or
from mesh.proxy.fields import OPAQUE, Place
from mesh.proxy.filters import registry
from mesh.proxy.http1.head import RequestHead
from mesh.proxy.request_head import expected_timeout
from mesh.proxy.retry import RetryPolicy
from mesh.proxy.route import DirectResponse, Forward, Redirect, WeightedCluster, without_port

SUPPORTED = {
    "envoy.config.route.v3.RouteAction": frozenset(
        ("cluster", "weighted_clusters", "cluster_not_found_response_code", "prefix_rewrite", "regex_rewrite",
         "host_rewrite_literal", "auto_host_rewrite", "host_rewrite_header", "append_x_forwarded_host", "timeout",
         "idle_timeout", "retry_policy")
    ),
    "envoy.config.route.v3.WeightedCluster": frozenset(
        ("clusters", "total_weight", "runtime_key_prefix", "header_name")
    ),
    "envoy.config.route.v3.WeightedCluster.ClusterWeight": frozenset(
        ("name", "weight", "request_headers_to_add", "request_headers_to_remove", "response_headers_to_add",
         "response_headers_to_remove", "typed_per_filter_config", "host_rewrite_literal")
    ),
    "envoy.config.route.v3.RetryPolicy": frozenset(
        ("retry_on", "num_retries", "per_try_timeout", "retry_host_predicate", "host_selection_retry_max_attempts",
         "retriable_status_codes", "retry_back_off")
    ),
    "envoy.config.route.v3.RetryPolicy.RetryBackOff": frozenset(("base_interval", "max_interval")),
    "envoy.config.route.v3.RetryPolicy.RetryHostPredicate": frozenset(("name", "typed_config")),
    "envoy.config.route.v3.RedirectAction": frozenset(
        ("https_redirect", "scheme_redirect", "host_redirect", "port_redirect", "path_redirect", "prefix_rewrite",
         "regex_rewrite", "response_code", "strip_query")
    ),
    "envoy.config.route.v3.DirectResponseAction": frozenset(("status", "body")),
    "envoy.config.core.v3.DataSource": frozenset(("inline_string", "inline_bytes")),
    "envoy.type.matcher.v3.RegexMatchAndSubstitute": frozenset(("pattern", "substitution")),
    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate": OPAQUE,
}  # fmt: skip

RETRY_ON = frozenset(
    ("5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream",
     "retriable-status-codes", "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
     "http3-post-connect-failure", "envoy-ratelimited")
)  # fmt: skip
_NOT_FOUND = {0: 503, 1: 404, 2: 500}
_REDIRECTS = {0: 301, 1: 302, 2: 303, 3: 307, 4: 308}
_PREVIOUS_HOSTS = "envoy.retry_host_predicates.previous_hosts"


def compile_action(route: Any, host: Any, place: Place) -> Forward | Redirect | DirectResponse:
    """The action of a Route. Raises Refused."""
    kind = route.WhichOneof("action")
    if kind == "route":
        return _forward(route, host, place.at("route"))
    if kind == "redirect":
        return Redirect(_REDIRECTS[route.redirect.response_code], _location(route, place.at("redirect")))
    if kind == "direct_response":
        return _direct(route.direct_response, place.at("direct_response"))
    raise place.refuse("one of route, redirect, direct_response is required")


def _direct(action: Any, place: Place) -> DirectResponse:
    if not 200 <= action.status < 600:
        raise place.refuse(f"{action.status} is not a status of 200 to 599", "status")
    return DirectResponse(action.status, action.body.inline_bytes or action.body.inline_string.encode())


def _forward(route: Any, host: Any, place: Place) -> Forward:
    action = route.route
    clusters, total, header = _clusters(action, place)
    policy = action.retry_policy if action.HasField("retry_policy") else host.retry_policy
    idle = seconds_or(action, "idle_timeout", -1.0)
    timeout, retry = seconds_or(action, "timeout", 15.0), _retry(policy, place.at("retry_policy"))
    return Forward(
        clusters=clusters,
        total_weight=total,
        header_name=header,
        timeout=timeout,
        idle_timeout=None if idle < 0 else idle,
        retry=retry,
        rewrite_path=_rewrite(action, route.match, place),
        host_rewrite=action.host_rewrite_literal.encode() or None,
        auto_host_rewrite=value_or(action, "auto_host_rewrite", False),
        host_rewrite_header=action.host_rewrite_header.lower().encode() or None,
        append_x_forwarded_host=action.append_x_forwarded_host,
        no_cluster_status=_NOT_FOUND[action.cluster_not_found_response_code],
        expected_timeout=expected_timeout(timeout, retry),
        rewrites=action.WhichOneof("host_rewrite_specifier") is not None
        or bool(action.prefix_rewrite)
        or action.HasField("regex_rewrite"),
    )


def _clusters(action: Any, place: Place) -> tuple[tuple[WeightedCluster, ...], int, bytes | None]:
    kind = action.WhichOneof("cluster_specifier")
    if kind == "cluster":
        return (WeightedCluster(action.cluster, 1),), 1, None
    if kind != "weighted_clusters":
        raise place.refuse("one of cluster, weighted_clusters is required")
    inside = place.at("weighted_clusters")
    weighted = action.weighted_clusters
    clusters = tuple(_weighted(cluster, inside.at(f"clusters[{i}]")) for i, cluster in enumerate(weighted.clusters))
    total = sum(cluster.weight for cluster in clusters)
    if total == 0:
        raise inside.refuse("the sum of the weights must be greater than 0")
    return clusters, total, weighted.header_name.lower().encode() or None


def _weighted(cluster: Any, place: Place) -> WeightedCluster:
    return WeightedCluster(
        name=cluster.name,
        weight=value_or(cluster, "weight", 0),
        request_edit=headers.header_edit([(cluster.request_headers_to_add, cluster.request_headers_to_remove, place)]),
        response_edit=headers.header_edit(
            [(cluster.response_headers_to_add, cluster.response_headers_to_remove, place)]
        ),
        host_rewrite=cluster.host_rewrite_literal.encode() or None,
        filter_config=registry.per_route(cluster.typed_per_filter_config, place),
        switches=registry.switches([cluster.typed_per_filter_config]) or None,
    )


def _retry(policy: Any, place: Place) -> RetryPolicy | None:
    names = frozenset(name.strip() for name in policy.retry_on.split(",") if name.strip())
    unknown = {name for name in names - RETRY_ON if not name.isdigit()}
    if unknown:
        raise place.refuse(f"unknown conditions {', '.join(sorted(unknown))}", "retry_on")
    count = value_or(policy, "num_retries", 1)
    if not names or count == 0:
        return None
    predicates = [predicate.name for predicate in policy.retry_host_predicate]
    if any(name != _PREVIOUS_HOSTS for name in predicates):
        raise place.refuse(f"only {_PREVIOUS_HOSTS} is supported", "retry_host_predicate")
    base = seconds_or(policy.retry_back_off, "base_interval", 0.025)
    return RetryPolicy(
        on=names,
        count=count,
        per_try_timeout=seconds(policy.per_try_timeout),
        statuses=frozenset(policy.retriable_status_codes),
        host_attempts=policy.host_selection_retry_max_attempts or 1,
        skips_tried_hosts=bool(predicates),
        base=base,
        longest=seconds_or(policy.retry_back_off, "max_interval", base * 10),
    )


def _rewrite(action: Any, match: Any, place: Place) -> Callable[[bytes], bytes] | None:
    """The path rewrite of a route or redirect action, over the path without query."""
    if action.prefix_rewrite:
        return _prefix_rewrite(action.prefix_rewrite.encode(), match, place)
    if action.HasField("regex_rewrite"):
        inside = place.at("regex_rewrite")
        pattern = regex(action.regex_rewrite.pattern, inside.at("pattern"))
        substitution = action.regex_rewrite.substitution.encode()
        return lambda path: pattern.sub(substitution, path)
    return None


def _prefix_rewrite(new: bytes, match: Any, place: Place) -> Callable[[bytes], bytes]:
    kind = match.WhichOneof("path_specifier")
    if kind == "safe_regex":
        raise place.refuse("prefix_rewrite needs a prefix or path match", "prefix_rewrite")
    matched = len(getattr(match, kind).encode())
    return lambda path: new + path[matched:]


def _location(route: Any, place: Place) -> Callable[[RequestHead, bytes], bytes]:
    action = route.redirect
    scheme = b"https" if action.https_redirect else action.scheme_redirect.encode()
    host, port = action.host_redirect.encode(), action.port_redirect
    fixed = action.path_redirect.encode()
    rewrite = _rewrite(action, route.match, place)

    def location(head: RequestHead, own_scheme: bytes) -> bytes:
        path, question, query = head.target.partition(b"?")
        if action.strip_query:
            question = query = b""
        if fixed:
            # A query in the configured path replaces the request's own.
            path = fixed
            if b"?" in fixed:
                question = query = b""
        elif rewrite is not None:
            path = rewrite(path)
        use = scheme or head.marked.get(b"x-forwarded-proto") or own_scheme
        return b"%b://%b%b%b%b" % (use, _redirect_host(head.authority, host, port, use), path, question, query)

    return location


def _redirect_host(authority: bytes, host: bytes, port: int, scheme: bytes) -> bytes:
    if port:
        return b"%b:%d" % (host or without_port(authority), port)
    if host:
        return host
    # A port that was the default of the old scheme makes no sense under the new one.
    old_default = b":80" if scheme == b"https" else b":443"
    return without_port(authority) if authority.endswith(old_default) else authority
