"""Which requests an access log is written for (`AccessLogFilter`), as predicates of a stream or TCP connection."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from operator import eq, ge, le, ne
from typing import Any

from google.protobuf.json_format import MessageToDict

from mesh.proxy.compile.matchers import header_match
from mesh.proxy.compile.values import PARTS, STRING_MATCHER, string_match
from mesh.proxy.fields import Place
from mesh.proxy.observe.log_values import Subject, dynamic_metadata, grpc_status

_A = "envoy.config.accesslog.v3."
SUPPORTED: Mapping[str, frozenset[str]] = {
    _A + "AccessLogFilter": frozenset(
        ("status_code_filter", "duration_filter", "not_health_check_filter", "traceable_filter", "runtime_filter",
         "and_filter", "or_filter", "header_filter", "response_flag_filter", "grpc_status_filter", "metadata_filter",
         "log_type_filter")
    ),
    _A + "StatusCodeFilter": frozenset(("comparison",)),
    _A + "DurationFilter": frozenset(("comparison",)),
    _A + "ComparisonFilter": frozenset(("op", "value")),
    _A + "NotHealthCheckFilter": frozenset(),
    _A + "TraceableFilter": frozenset(),
    _A + "RuntimeFilter": frozenset(("runtime_key", "percent_sampled", "use_independent_randomness")),
    _A + "AndFilter": frozenset(("filters",)),
    _A + "OrFilter": frozenset(("filters",)),
    _A + "HeaderFilter": frozenset(("header",)),
    _A + "ResponseFlagFilter": frozenset(("flags",)),
    _A + "GrpcStatusFilter": frozenset(("statuses", "exclude")),
    _A + "MetadataFilter": frozenset(("matcher", "match_if_key_not_found")),
    _A + "LogTypeFilter": frozenset(("types", "exclude")),
    "envoy.config.core.v3.RuntimeUInt32": frozenset(("default_value", "runtime_key")),
    "envoy.type.v3.FractionalPercent": frozenset(("numerator", "denominator")),
    "envoy.config.route.v3.HeaderMatcher": frozenset(
        ("name", "exact_match", "safe_regex_match", "range_match", "present_match", "prefix_match", "suffix_match",
         "contains_match", "string_match", "invert_match", "treat_missing_header_as_empty")
    ),
    "envoy.type.v3.Int64Range": frozenset(("start", "end")),
    "envoy.type.matcher.v3.MetadataMatcher": frozenset(("filter", "path", "value", "invert")),
    "envoy.type.matcher.v3.MetadataMatcher.PathSegment": frozenset(("key",)),
    "envoy.type.matcher.v3.ValueMatcher": frozenset(
        ("null_match", "double_match", "string_match", "bool_match", "present_match")
    ),
    "envoy.type.matcher.v3.ValueMatcher.NullMatch": frozenset(),
    "envoy.type.matcher.v3.DoubleMatcher": frozenset(("range", "exact")),
    "envoy.type.v3.DoubleRange": frozenset(("start", "end")),
    **STRING_MATCHER,
}  # fmt: skip
_OPERATIONS: Mapping[int, Callable[[Any, Any], bool]] = {0: eq, 1: ge, 2: le, 3: ne}
_NOT_SET = 0  # what the access logs of listeners say
_END_TYPES = {False: 6, True: 3}  # AccessLogType: DownstreamEnd, TcpConnectionEnd

Passes = Callable[[Subject], bool]


def passes(config: Any, place: Place, *, tcp: bool) -> Passes:
    """The predicate of an AccessLogFilter whose fields have been checked. Raises Refused."""
    kind = config.WhichOneof("filter_specifier")
    if kind is None:
        raise place.refuse("a filter is required")
    return _MAKERS[kind](getattr(config, kind), place.at(kind), tcp)


def _status(config: Any, place: Place, tcp: bool) -> Passes:
    compare, wanted = _OPERATIONS[config.comparison.op], config.comparison.value.default_value
    if tcp:
        return lambda x: compare(0, wanted)
    return lambda x: compare(x.status, wanted)


def _duration(config: Any, place: Place, tcp: bool) -> Passes:
    compare, wanted = _OPERATIONS[config.comparison.op], config.comparison.value.default_value
    return lambda x: compare(int(x.elapsed * 1000), wanted)


def _not_health_check(config: Any, place: Place, tcp: bool) -> Passes:
    return lambda x: True  # only Envoy's health_check filter makes a request one, and that filter is refused


def _traceable(config: Any, place: Place, tcp: bool) -> Passes:
    return lambda x: (span := getattr(x, "span", None)) is not None and span.is_forced  # as in Envoy


def _runtime(config: Any, place: Place, tcp: bool) -> Passes:
    parts = PARTS[config.percent_sampled.denominator]
    below = config.percent_sampled.numerator
    if tcp or config.use_independent_randomness:
        return lambda x: random.random() * parts < below

    def chosen(x: Subject) -> bool:
        # The request id's first digits decide, so that every sidecar on its way logs the same requests.
        digits = x.head.marked.get(b"x-request-id", b"")[:8]
        try:
            value = int(digits, 16)
        except ValueError:
            return random.random() * parts < below
        return value % parts < below

    return chosen


def _all(config: Any, place: Place, tcp: bool) -> Passes:
    inner = _inner(config, place, tcp)
    return lambda x: all(each(x) for each in inner)


def _any(config: Any, place: Place, tcp: bool) -> Passes:
    inner = _inner(config, place, tcp)
    return lambda x: any(each(x) for each in inner)


def _inner(config: Any, place: Place, tcp: bool) -> tuple[Passes, ...]:
    return tuple(passes(each, place.at(f"filters[{index}]"), tcp=tcp) for index, each in enumerate(config.filters))


def _header(config: Any, place: Place, tcp: bool) -> Passes:
    matches = header_match(config.header, place.at("header"))
    return (lambda x: False) if tcp else (lambda x: matches(x.head))


def _flags(config: Any, place: Place, tcp: bool) -> Passes:
    wanted = frozenset(config.flags)
    if not wanted:
        return lambda x: x.flags != ""
    return lambda x: not wanted.isdisjoint(x.flags.split(","))


def _grpc(config: Any, place: Place, tcp: bool) -> Passes:
    wanted = frozenset(config.statuses)
    exclude = config.exclude
    if tcp:
        return lambda x: exclude
    # A call without status counts as unknown, as Envoy has it.
    return lambda x: ((2 if (status := grpc_status(x)) is None else status) in wanted) != exclude


def _metadata(config: Any, place: Place, tcp: bool) -> Passes:
    matcher = config.matcher
    path = [matcher.filter, *(segment.key for segment in matcher.path)]
    matches = _value(matcher.value, place.at("matcher.value"))
    absent = config.match_if_key_not_found.value if config.HasField("match_if_key_not_found") else True
    inverted = matcher.invert

    def test(x: Subject) -> bool:
        value = dynamic_metadata(x, path)
        return absent if value is None else matches(value) != inverted

    return test


def _value(matcher: Any, place: Place) -> Callable[[Any], bool]:
    kind = matcher.WhichOneof("match_pattern")
    if kind == "string_match":
        match = string_match(matcher.string_match, place.at("string_match"))
        return lambda value: isinstance(value, str) and match(value.encode())
    if kind == "double_match":
        said = MessageToDict(matcher.double_match)
        if "range" in said:
            start, end = matcher.double_match.range.start, matcher.double_match.range.end
            return lambda value: isinstance(value, int | float) and start <= value < end
        return lambda value: value == matcher.double_match.exact
    if kind == "bool_match":
        wanted = matcher.bool_match
        return lambda value: value is wanted
    if kind == "present_match":
        present = matcher.present_match
        return lambda value: present
    return lambda value: value is None


def _log_type(config: Any, place: Place, tcp: bool) -> Passes:
    passed, unset = ((kind in config.types) != config.exclude for kind in (_END_TYPES[tcp], _NOT_SET))
    return lambda x: unset if getattr(x, "log_type", "") == "NotSet" else passed


_MAKERS: Mapping[str, Callable[[Any, Place, bool], Passes]] = {
    "status_code_filter": _status,
    "duration_filter": _duration,
    "not_health_check_filter": _not_health_check,
    "traceable_filter": _traceable,
    "runtime_filter": _runtime,
    "and_filter": _all,
    "or_filter": _any,
    "header_filter": _header,
    "response_flag_filter": _flags,
    "grpc_status_filter": _grpc,
    "metadata_filter": _metadata,
    "log_type_filter": _log_type,
}
