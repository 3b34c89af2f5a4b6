"""What the compiler makes of routes and clusters, and what it refuses by name."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from mesh.proxy import decode
from mesh.proxy.compile.clusters import CompiledCluster, compile_cluster
from mesh.proxy.compile.routes import compile_routes
from mesh.proxy.fields import Place
from mesh.proxy.http.route import DirectResponse, Forward, Redirect, Route, RouteTable
from mesh.proxy.http1.head import RequestHead
from mesh.proxy.http1.parse import parse_request
from mesh.proxy.resources import Refused


def table(*routes: str) -> RouteTable:
    message = RouteConfiguration(name="r")
    decode.parse(f"virtual_hosts: [{{name: v, domains: ['*'], routes: [{', '.join(routes)}]}}]", message, "test")
    return compile_routes(message, Place("RouteConfiguration", "r"))


def route(text: str) -> Route:
    return table(text).hosts[0].routes[0]


def cluster(text: str) -> CompiledCluster:
    message = Cluster()
    decode.parse(f"name: c\ntype: STATIC\n{text}", message, "test")
    return compile_cluster(message, Place("Cluster", "c"))


def request(target: str = "/", *lines: str, method: str = "GET", host: str = "a") -> RequestHead:
    return parse_request("\r\n".join((f"{method} {target} HTTP/1.1", f"Host: {host}", *lines)).encode())


def asking(head: RequestHead) -> Any:
    """A stream as far as routes look at it."""
    return SimpleNamespace(head=head, draw=random.getrandbits(64))


def matches(match: str, head: RequestHead) -> bool:
    return table(f"{{match: {match}, direct_response: {{status: 200}}}}").match(asking(head)) is not None


@pytest.mark.parametrize(
    ("match", "target", "expected"),
    [
        ("{prefix: /a}", "/ab?q", True),
        ("{path: /a}", "/a?q", True),
        ("{path: /a}", "/a/", False),
        ("{path: /A, case_sensitive: false}", "/a", True),
        ("{path_separated_prefix: /a}", "/ab", False),
        ("{path_separated_prefix: /a}", "/a/b", True),
        ("{safe_regex: {regex: '/[0-9]+'}}", "/12", True),
        ("{safe_regex: {regex: '/[0-9]+'}}", "/12x", False),  # the whole path, not a part
        ("{prefix: /, query_parameters: [{name: q, string_match: {exact: '1'}}]}", "/?p=2&q=1", True),
        ("{prefix: /, query_parameters: [{name: q, present_match: true}]}", "/?qq=1", False),
        ("{prefix: /, runtime_fraction: {default_value: {numerator: 0}}}", "/", False),
        ("{prefix: /, runtime_fraction: {default_value: {numerator: 100}}}", "/", True),
    ],
)
def test_path_and_query_matches(match: str, target: str, expected: bool) -> None:
    assert matches(match, request(target)) is expected


@pytest.mark.parametrize(
    ("matcher", "value", "expected"),
    [
        ("string_match: {exact: b}", "b", True),
        ("string_match: {exact: B, ignore_case: true}", "b", True),
        ("string_match: {prefix: b}", "bc", True),
        ("string_match: {suffix: c}", "bc", True),
        ("string_match: {contains: c}", "bcd", True),
        ("string_match: {safe_regex: {regex: 'b.'}}", "bcd", False),
        ("present_match: true", "", True),
        ("present_match: true", None, False),
        ("present_match: false", None, True),
        ("present_match: true, invert_match: true", None, True),
        ("range_match: {start: 1, end: 5}", "5", False),
        ("range_match: {start: -1, end: 5}", "-1", True),
        ("string_match: {exact: b}, invert_match: true", "c", True),
        ("string_match: {exact: b}, invert_match: true", None, False),
        ("string_match: {exact: b}, invert_match: true, treat_missing_header_as_empty: true", None, True),
    ],
)
def test_header_matches(matcher: str, value: str | None, expected: bool) -> None:
    head = request("/", *([] if value is None else [f"X-H: {value}"]))
    assert matches(f"{{prefix: /, headers: [{{name: x-h, {matcher}}}]}}", head) is expected


def test_pseudo_headers_match_too() -> None:
    assert matches("{prefix: /, headers: [{name: ':method', string_match: {exact: POST}}]}", request(method="POST"))
    assert matches("{prefix: /, headers: [{name: ':authority', string_match: {prefix: a}}]}", request(host="a:80"))


def test_a_header_sends_each_request_where_its_number_says() -> None:
    action = route(
        "{match: {prefix: /}, route: {weighted_clusters: {header_name: x-b3-traceid, "
        "clusters: [{name: one, weight: 90}, {name: two, weight: 10}]}}}"
    ).action
    assert isinstance(action, Forward)
    chosen = [action.pick(asking(request("/", f"x-b3-traceid: {number}"))).name for number in range(300)]
    assert chosen == (["one"] * 90 + ["two"] * 10) * 3


@pytest.mark.parametrize("value", ["", "x", "-1", str(1 << 64)])
def test_a_header_that_is_no_number_leaves_it_to_chance(value: str) -> None:
    action = route(
        "{match: {prefix: /}, route: {weighted_clusters: {header_name: h, "
        "clusters: [{name: one, weight: 1}, {name: two, weight: 1}]}}}"
    ).action
    assert isinstance(action, Forward)
    # both are seen in 64 draws but with probability 2^-63
    assert {action.pick(asking(request("/", f"h: {value}"))).name for _ in range(64)} == {"one", "two"}


@pytest.mark.parametrize(
    ("redirect", "target", "host", "location"),
    [
        ("{https_redirect: true}", "/x?y=1", "a:80", "https://a/x?y=1"),
        ("{host_redirect: b, port_redirect: 81}", "/", "a", "http://b:81/"),
        ("{path_redirect: /new}", "/old?q", "a", "http://a/new?q"),
        ("{path_redirect: '/new?z'}", "/old?q", "a", "http://a/new?z"),
        ("{prefix_rewrite: /new}", "/old/x?q", "a", "http://a/new/x?q"),
        ("{strip_query: true}", "/old?q", "a", "http://a/old"),
    ],
)
def test_redirects(redirect: str, target: str, host: str, location: str) -> None:
    match = "{prefix: /old}" if "prefix" in redirect else "{prefix: /}"
    action = route(f"{{match: {match}, redirect: {redirect}}}").action
    assert isinstance(action, Redirect)
    assert action.location(request(target, host=host)) == location.encode()


def test_rewrites() -> None:
    for text, new in (
        ("{match: {prefix: /a}, route: {cluster: c, prefix_rewrite: /b}}", b"/b/x"),
        (
            "{match: {prefix: /}, route: {cluster: c, "
            "regex_rewrite: {pattern: {regex: '/(a)/(x)'}, substitution: '/\\2/\\1'}}}",
            b"/x/a",
        ),
    ):
        action = route(text).action
        assert isinstance(action, Forward)
        assert action.rewrite_path is not None
        assert action.rewrite_path(b"/a/x") == new


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{match: {prefix: /}, route: {cluster_specifier_plugin: x}}", "route.cluster_specifier_plugin: not supported"),
        ("{match: {prefix: /}, route: {cluster: c, hash_policy: [{terminal: true}]}}", "one of header, cookie"),
        ("{match: {prefix: /}, route: {cluster: c, request_mirror_policies: [{trace_sampled: true}]}}", "not traced"),
        ("{match: {safe_regex: {regex: '('}}, direct_response: {status: 200}}", "match.safe_regex.regex: bad regex"),
        ("{match: {prefix: /}, direct_response: {status: 99}}", "direct_response.status: 99 is not a status"),
        ("{match: {prefix: /}, route: {cluster: c, retry_policy: {retry_on: nonsense}}}", "unknown conditions nons"),
        ("{match: {filter_state: [{key: k}], prefix: /}, route: {cluster: c}}", "match.filter_state: not supported"),
        (
            "{match: {prefix: /}, route: {cluster: c}, request_headers_to_add: [{header: {key: a, value: '%X%'}}]}",
            "%X% is not supported",
        ),
    ],
)
def test_routes_that_cannot_be_honoured_are_refused_by_field(text: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        route(text)
    assert str(refused.value).startswith('RouteConfiguration "r": virtual_hosts[0].routes[0].')
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lb_subset_config: {list_as_any: true}", "lb_subset_config: not supported"),
        ("common_lb_config: {update_merge_window: 1s}", "common_lb_config.update_merge_window: only 0s is supported"),
        ("track_cluster_stats: {timeout_budgets: true}", "track_cluster_stats.timeout_budgets: not supported"),
        (
            "health_checks: [{timeout: 1s, interval: 1s, custom_health_check: {name: envoy.health_checkers.redis}}]",
            "health_checks[0].custom_health_check: not supported",
        ),
        (
            "health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1,"
            " grpc_health_check: {}}]",
            "health_checks: must support HTTP/2 for gRPC healthchecking",
        ),
        (
            "http2_protocol_options: {}\nhealth_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1,"
            " healthy_threshold: 1, grpc_health_check: {initial_metadata: [{header: {key: a, value: '%REQ(b)%'}}]}}]",
            "health_checks[0].grpc_health_check.initial_metadata[0].header.value: formatted values are not supported",
        ),
        (
            "circuit_breakers: {per_host_thresholds: [{max_requests: 1}]}",
            "circuit_breakers.per_host_thresholds[0].max_requests: not supported",
        ),
        ("outlier_detection: {monitors: [{}]}", "outlier_detection.monitors: not supported"),
        ("load_assignment: {endpoints: [{priority: 129}]}", "load_assignment.endpoints[0].priority: at most 128"),
        (
            "load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: "
            "{address: name, port_value: 1}}}}]}]}",
            "malformed IP address: name",
        ),
    ],
)
def test_clusters_that_cannot_be_honoured_are_refused_by_field(text: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        cluster(text)
    assert message in str(refused.value)


def test_a_cluster_with_its_defaults() -> None:
    config = cluster("").config
    assert (config.connect_timeout, config.http.idle_timeout, config.balancing.panic_threshold) == (5, 3600, 50)
    assert config.thresholds.max_retries == 3
    assert config.outlier is None


def test_transport_follows_endpoint_metadata() -> None:
    tls = (
        "{name: t, typed_config: {'@type': "
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: s}}"
    )
    endpoint = "{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: %d}}}%s}"
    in_mesh = ", metadata: {filter_metadata: {envoy.transport_socket_match: {tlsMode: istio}}}"
    config = cluster(
        f"transport_socket_matches: [{{name: m, match: {{tlsMode: istio}}, transport_socket: {tls}}}]\n"
        f"load_assignment: {{endpoints: [{{lb_endpoints: [{endpoint % (1, in_mesh)}, {endpoint % (2, '')}]}}]}}"
    ).config
    chosen: list[Any] = [config.tls_of(each) for each in config.assignment.endpoints]
    assert chosen[0].sni == "s"
    assert chosen[1] is None


def test_direct_responses_keep_their_body() -> None:
    action = route("{match: {prefix: /}, direct_response: {status: 201, body: {inline_string: hi}}}").action
    assert action == DirectResponse(201, b"hi")
