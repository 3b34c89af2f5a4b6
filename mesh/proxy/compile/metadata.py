"""Matchers of dynamic metadata: what filters have said of a request (`MetadataMatcher`, `ValueMatcher`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mesh.proxy.compile.values import string_match
from mesh.proxy.fields import Place

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream

_T = "envoy.type.matcher.v3."
SUPPORTED = {
    _T + "MetadataMatcher": frozenset(("filter", "path", "value", "invert")),
    _T + "MetadataMatcher.PathSegment": frozenset(("key",)),
    _T + "ValueMatcher": frozenset(
        ("null_match", "double_match", "string_match", "bool_match", "present_match", "list_match", "or_match")
    ),
    _T + "ValueMatcher.NullMatch": frozenset(),
    _T + "DoubleMatcher": frozenset(("range", "exact")),
    "envoy.type.v3.DoubleRange": frozenset(("start", "end")),
    _T + "ListMatcher": frozenset(("one_of",)),
    _T + "OrMatcher": frozenset(("value_matchers",)),
}  # fmt: skip

_ABSENT = object()
ValueMatch = Callable[[Any], bool]


def metadata_match(matcher: Any, place: Place) -> Callable[[Stream], bool]:
    """A MetadataMatcher over a stream's dynamic metadata. Raises Refused."""
    name, path = matcher.filter, tuple(segment.key for segment in matcher.path)
    matches, inverted = value_match(matcher.value, place.at("value")), matcher.invert

    def match(stream: Stream) -> bool:
        value: Any = stream.metadata.get(name, _ABSENT)
        for key in path:
            value = value.get(key, _ABSENT) if isinstance(value, Mapping) else _ABSENT
        return matches(value) != inverted

    return match


def value_match(matcher: Any, place: Place) -> ValueMatch:
    """A ValueMatcher; an absent value matches `present_match: false` alone. Raises Refused."""
    kind = matcher.WhichOneof("match_pattern")
    if kind == "null_match":
        return lambda value: value is None
    if kind == "bool_match":
        flag = matcher.bool_match
        return lambda value: value is flag
    if kind == "present_match":
        present = matcher.present_match
        return lambda value: (value is not _ABSENT) == present
    if kind == "string_match":
        wanted = string_match(matcher.string_match, place.at("string_match"))
        return lambda value: isinstance(value, str) and wanted(value.encode())
    if kind == "double_match":
        return _double(matcher.double_match)
    if kind == "list_match":
        one = value_match(matcher.list_match.one_of, place.at("list_match.one_of"))
        return lambda value: isinstance(value, list) and any(one(item) for item in value)
    if kind == "or_match":
        inside = place.at("or_match")
        some = [value_match(each, inside) for each in matcher.or_match.value_matchers]
        return lambda value: any(match(value) for match in some)
    raise place.refuse("a match pattern is required")


def _double(matcher: Any) -> ValueMatch:
    if matcher.WhichOneof("match_pattern") == "range":
        start, end = matcher.range.start, matcher.range.end
        return lambda value: _is_number(value) and start <= value < end
    exact = matcher.exact
    return lambda value: _is_number(value) and value == exact


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
