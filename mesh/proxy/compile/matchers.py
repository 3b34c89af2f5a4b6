"""Route matchers: path, headers and query parameters as predicates over a request head, the rest over its stream."""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import methodcaller
from typing import Any

from mesh.proxy.compile.metadata import metadata_match
from mesh.proxy.compile.values import BytesMatch, full_match, parts_of, plain_match, string_match
from mesh.proxy.fields import Place
from mesh.proxy.http.grpc import is_grpc
from mesh.proxy.http.route import Circumstance, Condition, PathMatch
from mesh.proxy.http.route_index import PathKey
from mesh.proxy.http1.head import Head, RequestHead, ResponseHead

_INTEGER = re.compile(rb"[+-]?\d{1,19}")
# What a regular expression says plainly before its first choice. A character that a quantifier follows is not plain.
_PLAIN_START = re.compile(rb"(?:[\w/!@#%&=:;<>,~'\"-](?![*?{]))*")

HEADER_MATCHER = {
    "envoy.config.route.v3.HeaderMatcher": frozenset(
        ("name", "exact_match", "safe_regex_match", "range_match", "present_match", "prefix_match", "suffix_match",
         "contains_match", "string_match", "invert_match", "treat_missing_header_as_empty")
    ),
    "envoy.type.v3.Int64Range": frozenset(("start", "end")),
    "envoy.config.route.v3.QueryParameterMatcher": frozenset(("name", "string_match", "present_match")),
}  # fmt: skip
Lookup = Callable[[RequestHead], bytes | None]


def path_match(match: Any, place: Place) -> PathMatch:
    """The path specifier of a RouteMatch, over the path without query."""
    kind = match.WhichOneof("path_specifier")
    if kind == "safe_regex":
        return full_match(match.safe_regex, place.at("safe_regex"))
    if kind == "connect_matcher":
        return _never
    if kind not in ("prefix", "path", "path_separated_prefix"):
        raise place.refuse("one of prefix, path, path_separated_prefix, safe_regex is required")
    wanted = getattr(match, kind).encode()
    if match.HasField("case_sensitive") and not match.case_sensitive.value:
        folded = _plain_path(kind, wanted.lower())
        return lambda path: folded(path.lower())
    return _plain_path(kind, wanted)


def _never(path: bytes) -> bool:
    """CONNECT has no path; see `VirtualHost.connects`."""
    return False


def _plain_path(kind: str, wanted: bytes) -> PathMatch:
    if kind == "path":
        return wanted.__eq__
    if kind == "path_separated_prefix":
        deeper = wanted + b"/"
        return lambda path: path == wanted or path.startswith(deeper)
    if wanted == b"/":
        return lambda path: True
    return methodcaller("startswith", wanted)


def path_keys(match: Any) -> list[PathKey]:
    """By what an index may find the route: every path that matches is equal to a key or begins with it."""
    kind = match.WhichOneof("path_specifier")
    if kind == "safe_regex":
        text = match.safe_regex.regex.encode().removeprefix(b"^")
        start = _PLAIN_START.match(text) if b"|" not in text else None
        return [PathKey(start[0] if start else b"", is_exact=False)]
    if kind == "connect_matcher":
        return []
    text = getattr(match, kind).encode()
    is_folded = match.HasField("case_sensitive") and not match.case_sensitive.value
    if is_folded:
        text = text.lower()
    if kind == "path_separated_prefix":
        return [PathKey(text, True, is_folded), PathKey(text + b"/", False, is_folded)]
    return [PathKey(text, kind == "path", is_folded)]


def conditions(match: Any, place: Place) -> tuple[Condition, ...]:
    """What a RouteMatch asks of the head besides its path; all must hold."""
    found: list[Condition] = []
    if match.HasField("grpc"):
        found.append(is_grpc)
    for index, header in enumerate(match.headers):
        found.append(header_match(header, place.at(f"headers[{index}]")))
    for index, parameter in enumerate(match.query_parameters):
        found.append(query_match(parameter, place.at(f"query_parameters[{index}]")))
    return tuple(found)


def circumstances(match: Any, place: Place) -> tuple[Circumstance, ...]:
    """What a RouteMatch asks of the stream besides its head; all must hold."""
    found: list[Circumstance] = []
    if match.HasField("runtime_fraction"):
        found.append(fraction_match(match.runtime_fraction.default_value))
    for name in ("presented", "validated"):
        if match.tls_context.HasField(name):
            # Whoever presents a certificate that is not valid does not get past the handshake.
            wanted = getattr(match.tls_context, name).value
            found.append(lambda stream, wanted=wanted: _has_certificate(stream) == wanted)  # type: ignore[misc]
    for index, matcher in enumerate(match.dynamic_metadata):
        found.append(metadata_match(matcher, place.at(f"dynamic_metadata[{index}]")))
    return tuple(found)


def fraction_match(fraction: Any) -> Circumstance:
    """Whether the stream's draw falls into a FractionalPercent."""
    numerator, parts = fraction.numerator, parts_of(fraction)
    if numerator >= parts:
        return lambda stream: True
    return lambda stream: stream.draw % parts < numerator


def _has_certificate(stream: Any) -> bool:
    peer = stream.connection.peer
    return peer is not None and peer.session is not None and peer.session.getpeercert(True) is not None


def lookup(name: str) -> Lookup:
    """How a header is read from a request, pseudo-headers included."""
    if name == ":method":
        return lambda head: head.method
    if name == ":path":
        return lambda head: None if head.method == b"CONNECT" and head.target[:1] != b"/" else head.target
    if name in (":authority", "host"):
        return lambda head: head.authority
    if name == ":scheme":
        return lambda head: head.scheme
    wanted = name.lower().encode()
    return lambda head: head.get(wanted)


def response_lookup(name: str) -> Callable[[ResponseHead], bytes | None]:
    """How a header is read from a response, its status included."""
    if name == ":status":
        return lambda head: b"%d" % head.status
    wanted = name.lower().encode()
    return lambda head: head.get(wanted)


def header_match(matcher: Any, place: Place, look_up: Callable[[str], Callable[[Any], bytes | None]] = lookup) -> Any:
    """A HeaderMatcher, over what `look_up` finds of its name. An absent header matches nothing, also inverted, unless
    it is to be taken as empty (Envoy). Of a header that came more than once, one value has to match.
    """
    get = look_up(matcher.name)
    kind = matcher.WhichOneof("header_match_specifier")
    inverted = matcher.invert_match
    if kind == "present_match" or kind is None:
        wanted = (matcher.present_match if kind else True) != inverted
        if matcher.treat_missing_header_as_empty:
            return lambda head: wanted
        return lambda head: (get(head) is not None) == wanted
    match = _value_match(matcher, kind, place)
    name = matcher.name.lower().encode()

    def found(head: Head, value: bytes) -> bool:
        return match(value) if b"," not in value else any(match(each) for each in head.values(name) or (value,))

    if matcher.treat_missing_header_as_empty:
        return lambda head: found(head, get(head) or b"") != inverted
    if inverted:
        return lambda head: (value := get(head)) is not None and not found(head, value)
    return lambda head: (value := get(head)) is not None and found(head, value)


def _value_match(matcher: Any, kind: str, place: Place) -> BytesMatch:
    if kind == "string_match":
        return string_match(matcher.string_match, place.at("string_match"))
    if kind == "safe_regex_match":
        return full_match(matcher.safe_regex_match, place.at("safe_regex_match"))
    if kind == "range_match":
        first, end = matcher.range_match.start, matcher.range_match.end
        return lambda value: _INTEGER.fullmatch(value) is not None and first <= int(value) < end
    return plain_match(kind.removesuffix("_match"), getattr(matcher, kind).encode())


def query_match(matcher: Any, place: Place) -> Condition:
    """A QueryParameterMatcher. Raises Refused."""
    name = matcher.name.encode()
    if matcher.WhichOneof("query_parameter_match_specifier") == "string_match":
        match = string_match(matcher.string_match, place.at("string_match"))
        return lambda head: (value := query_value(head.target, name)) is not None and match(value)
    wanted = matcher.present_match if matcher.HasField("present_match") else True
    return lambda head: (query_value(head.target, name) is not None) == wanted


def query_value(target: bytes, name: bytes) -> bytes | None:
    """The first value of a query parameter, not decoded, as Envoy compares it; None if it is absent."""
    _, _, query = target.partition(b"?")
    for pair in query.partition(b"#")[0].split(b"&"):
        key, _, value = pair.partition(b"=")
        if key == name:
            return value
    return None
