"""A VirtualService's match conditions as Envoy's RouteMatch, and the conditions decided at compile time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from envoy.config.route.v3.route_components_pb2 import HeaderMatcher, QueryParameterMatcher, RouteMatch
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from mesh.api.virtual_service import HTTPMatchRequest, L4MatchAttributes, StringMatch, TLSMatchAttributes
from mesh.snapshot.virtual_services import gateway_name


@dataclass(frozen=True, slots=True)
class Listening:
    """Where routes are compiled for: the port, whose proxy, and by which gateways (`mesh` at a sidecar)."""

    port: int
    gateways: frozenset[str]
    namespace: str
    labels: frozenset[tuple[str, str]]


def applies(match: HTTPMatchRequest | L4MatchAttributes | TLSMatchAttributes, at: Listening, namespace: str) -> bool:
    """Whether the match can hold at all there. `namespace` is the VirtualService's.

    With `gateways` of its own the match is for those alone, and source conditions are not looked at (Istio's
    `sourceMatchHTTP`).
    """
    if match.port and match.port != at.port:
        return False
    if match.gateways:
        return any(gateway_name(name, namespace) in at.gateways for name in match.gateways)
    if match.source_namespace and match.source_namespace != at.namespace:
        return False
    return set(match.source_labels.items()) <= at.labels


def route_match(match: HTTPMatchRequest | None) -> RouteMatch:
    """The conditions a request is held against; None matches every request."""
    if match is None:
        return RouteMatch(prefix="/")
    result = RouteMatch()
    _set_path(result, match)
    result.headers.extend(_header(name, wanted) for name, wanted in sorted(match.headers.items()))
    result.headers.extend(_without(name, unwanted) for name, unwanted in sorted(match.without_headers.items()))
    pseudo = {":authority": match.authority, ":method": match.method, ":scheme": match.scheme}
    result.headers.extend(_header(name, wanted) for name, wanted in pseudo.items() if wanted is not None)
    result.query_parameters.extend(_query(match.query_params))
    return result


def is_catch_all(match: RouteMatch) -> bool:
    """Whether every request matches, so that nothing after it can be reached."""
    if match.headers or match.query_parameters:
        return False
    return match.prefix == "/" or match.safe_regex.regex == ".*"


def _set_path(result: RouteMatch, match: HTTPMatchRequest) -> None:
    uri = match.uri or StringMatch(prefix="/")
    if uri.exact is not None:
        result.path = uri.exact
    elif uri.regex is not None:
        result.safe_regex.CopyFrom(RegexMatcher(regex=uri.regex))
    else:
        result.prefix = "/" if uri.prefix is None else uri.prefix
    if match.ignore_uri_case:
        result.case_sensitive.value = False


def string_matcher(match: StringMatch) -> StringMatcher | None:
    """The condition on a text; None for a match that only asks for presence."""
    if match.exact is not None:
        return StringMatcher(exact=match.exact)
    if match.prefix is not None:
        return StringMatcher(prefix=match.prefix)
    if match.regex is not None:
        return StringMatcher(safe_regex=RegexMatcher(regex=match.regex))
    return None


def _header(name: str, match: StringMatch) -> HeaderMatcher:
    matcher = string_matcher(match)
    if matcher is None:
        return HeaderMatcher(name=name, present_match=True)
    return HeaderMatcher(name=name, string_match=matcher)


def _without(name: str, match: StringMatch) -> HeaderMatcher:
    """Inverted. A request that has no such header passes: an inverted string match alone would fail it in Envoy."""
    matcher = _header(name, match)
    matcher.invert_match = True
    matcher.treat_missing_header_as_empty = matcher.HasField("string_match")
    return matcher


def _query(params: Mapping[str, StringMatch]) -> list[QueryParameterMatcher]:
    result = []
    for name, wanted in sorted(params.items()):
        matcher = string_matcher(wanted)
        if matcher is None:
            result.append(QueryParameterMatcher(name=name, present_match=True))
        else:
            result.append(QueryParameterMatcher(name=name, string_match=matcher))
    return result
