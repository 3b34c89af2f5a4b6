"""Compiled routes choose as a naive reading of the VirtualService does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from envoy.config.route.v3 import route_components_pb2 as rc
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from hypothesis import given
from hypothesis import strategies as st

from mesh.api.meta import ObjectMeta
from mesh.api.virtual_service import (
    Destination,
    HTTPMatchRequest,
    HTTPRoute,
    HTTPRouteDestination,
    StringMatch,
    VirtualService,
    VirtualServiceSpec,
)
from mesh.snapshot.virtual_services import index
from mesh.xds.compile.destinations import Destinations
from mesh.xds.compile.matching import Listening
from mesh.xds.compile.routes import virtual_service_routes

WORDS = ("a", "ab", "abc", "b", "")
PATHS = ("/", "/a", "/A", "/ab", "/ab/c", "/b")
LABELS = ({"app": "x"}, {"app": "y"}, {})
HERE = Listening(9080, frozenset({"mesh"}), "default", frozenset({("app", "x")}))


@dataclass(frozen=True)
class Request:
    path: str
    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]


values = st.sampled_from(WORDS)
string_matches = st.one_of(
    values.map(lambda word: StringMatch(exact=word)),
    st.sampled_from(WORDS[:-1]).map(lambda word: StringMatch(prefix=word)),
    st.sampled_from(("a.*", "ab?", "[bc]", "a|ab")).map(lambda regex: StringMatch(regex=regex)),
)
present = st.just(StringMatch())
uris = st.one_of(
    st.sampled_from(PATHS).map(lambda path: StringMatch(exact=path)),
    st.sampled_from(PATHS).map(lambda path: StringMatch(prefix=path)),
    st.sampled_from((".*", "/a.*", "/[ab]")).map(lambda regex: StringMatch(regex=regex)),
)
names = st.sampled_from(("x-one", "x-two"))
matches = st.builds(
    HTTPMatchRequest,
    uri=st.none() | uris,
    ignore_uri_case=st.booleans(),
    method=st.none() | st.sampled_from(("GET", "POST")).map(lambda method: StringMatch(exact=method)),
    headers=st.dictionaries(names, string_matches | present, max_size=2),
    without_headers=st.dictionaries(names, string_matches | present, max_size=1),
    query_params=st.dictionaries(st.just("q"), string_matches | present, max_size=1),
    port=st.sampled_from((0, 9080, 80)),
    source_labels=st.sampled_from(LABELS),
    source_namespace=st.sampled_from(("", "default", "other")),
    gateways=st.sampled_from(((), ("mesh",), ("edge",))),
)
rules = st.lists(st.lists(matches, max_size=3).map(tuple), min_size=1, max_size=4)
requests = st.builds(
    Request,
    path=st.sampled_from(PATHS),
    method=st.sampled_from(("GET", "POST")),
    headers=st.dictionaries(names, values, max_size=2),
    query=st.dictionaries(st.just("q"), values, max_size=1),
)


@given(rules, requests)
def test_compiled_routes_choose_as_the_virtual_service_reads(
    matches: list[tuple[HTTPMatchRequest, ...]], request: Request
) -> None:
    source = virtual_service(matches)
    (bound,) = index([source]).all
    routes = virtual_service_routes(bound, HERE, Destinations())
    found = (route.route.cluster for route in routes if envoy_matches(route.match, request))
    chosen = next((cluster.split("|")[-1].partition(".")[0] for cluster in found), None)
    assert chosen == naive_choice(matches, request)


def virtual_service(matches: list[tuple[HTTPMatchRequest, ...]]) -> VirtualService:
    http = tuple(
        HTTPRoute(match=own, route=(HTTPRouteDestination(destination=Destination(host=f"d{place}")),))
        for place, own in enumerate(matches)
    )
    return VirtualService(
        api_version="networking.istio.io/v1",
        metadata=ObjectMeta(name="v"),
        spec=VirtualServiceSpec(hosts=("h",), http=http),
    )


def naive_choice(matches: list[tuple[HTTPMatchRequest, ...]], request: Request) -> str | None:
    """The first route one of whose matches holds; a route without matches holds always."""
    for place, alternatives in enumerate(matches):
        if not alternatives or any(holds(match, request) for match in alternatives):
            return f"d{place}"
    return None


def holds(match: HTTPMatchRequest, request: Request) -> bool:
    """Istio's documentation, read word by word."""
    if match.port not in (0, 9080):
        return False
    if match.gateways:
        if "mesh" not in match.gateways:
            return False
    elif match.source_namespace not in ("", "default") or match.source_labels.get("app", "x") != "x":
        return False
    path, uri = request.path, match.uri
    if uri is not None:
        fold = match.ignore_uri_case and uri.regex is None
        if not string_holds(uri, path.lower() if fold else path, fold=fold):
            return False
    if match.method is not None and match.method.exact != request.method:
        return False
    return (
        all(has(wanted, request.headers.get(name)) for name, wanted in match.headers.items())
        and not any(lacks_not(wanted, request.headers.get(name)) for name, wanted in match.without_headers.items())
        and all(has(wanted, request.query.get(name)) for name, wanted in match.query_params.items())
    )


def has(match: StringMatch, value: str | None) -> bool:
    return value is not None and (match == StringMatch() or string_holds(match, value))


def lacks_not(match: StringMatch, value: str | None) -> bool:
    """withoutHeaders: a missing header counts as empty where its value is asked about, in Istio as in Envoy."""
    return has(match, value if match == StringMatch() else value or "")


def string_holds(match: StringMatch, value: str, *, fold: bool = False) -> bool:
    if match.exact is not None:
        return value == (match.exact.lower() if fold else match.exact)
    if match.prefix is not None:
        return value.startswith(match.prefix.lower() if fold else match.prefix)
    assert match.regex is not None
    return re.fullmatch(match.regex, value) is not None


def envoy_matches(match: rc.RouteMatch, request: Request) -> bool:
    """Envoy's documentation of RouteMatch, as far as compiled routes use it."""
    folded = match.HasField("case_sensitive") and not match.case_sensitive.value
    path = request.path.lower() if folded else request.path
    kind = match.WhichOneof("path_specifier")
    wanted = getattr(match, kind)
    if kind == "safe_regex":
        if not re.fullmatch(wanted.regex, request.path):
            return False
    elif kind == "path":
        if path != (wanted.lower() if folded else wanted):
            return False
    elif not path.startswith(wanted.lower() if folded else wanted):
        return False
    headers = {**request.headers, ":method": request.method}
    return all(envoy_header(own, headers.get(own.name)) for own in match.headers) and all(
        envoy_query(own, request.query.get(own.name)) for own in match.query_parameters
    )


def envoy_header(matcher: rc.HeaderMatcher, value: str | None) -> bool:
    """An inverted string match does not hold for a missing header, unless it counts as empty."""
    if matcher.WhichOneof("header_match_specifier") == "present_match":
        return (value is not None) != matcher.invert_match
    if value is None and not matcher.treat_missing_header_as_empty:
        return False
    return envoy_string(matcher.string_match, value or "") != matcher.invert_match


def envoy_query(matcher: rc.QueryParameterMatcher, value: str | None) -> bool:
    if value is None or matcher.present_match:
        return value is not None
    return envoy_string(matcher.string_match, value)


def envoy_string(matcher: StringMatcher, value: str) -> bool:
    match matcher.WhichOneof("match_pattern"):
        case "exact":
            return value == matcher.exact
        case "prefix":
            return value.startswith(matcher.prefix)
        case _:
            return re.fullmatch(matcher.safe_regex.regex, value) is not None
