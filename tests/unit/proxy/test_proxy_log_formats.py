"""Log formats as functions: what operators become, how values are typed, what is refused."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from envoy.config.accesslog.v3.accesslog_pb2 import AccessLogFilter
from google.protobuf.json_format import ParseDict

from mesh.proxy.compile.log_filters import SUPPORTED, passes
from mesh.proxy.compile.substitution import compile_json, compile_text
from mesh.proxy.fields import Place, check
from mesh.proxy.http1.head import Head, RequestHead
from mesh.proxy.http1.parse import parse_request
from mesh.proxy.observe.log_values import TimeFormat
from mesh.proxy.resources import Refused

PLACE = Place("Listener", "l")
HEAD = b'GET /a?b=c%20d HTTP/1.1\r\nHost: h\r\nX-Bytes: a\xffb\r\nX-Text: \xc3\xa9\r\nX-Quote: a"b\\c'


def stream(**fields: Any) -> Any:
    head: RequestHead = parse_request(HEAD)
    known = {"head": head, "response_head": None, "response_trailers": None, "status": 200, "flags": "", "elapsed": 0.5}
    return SimpleNamespace(**known | fields)


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("100%% of %REQ(:PATH)%", "100% of /a?b=c%20d"),
        ("%REQ(none?x-quote)%", 'a"b\\c'),
        ("%REQ(none)%", "-"),
        ("%REQ(x-quote):2%", 'a"'),
        ("%PATH(NQ)%", "/a"),
        ("%QUERY_PARAM(b)%", "c d"),
        ("%RESPONSE_FLAGS%%RESPONSE_CODE%", "-200"),
        ("%DURATION%", "500"),
        ("%TRAILER(x)%", "-"),
    ],
)
def test_operators_in_text(template: str, line: str) -> None:
    assert compile_text(template, PLACE)(stream()) == line


def test_bytes_of_a_header_come_out_as_they_came_in() -> None:
    """Whatever the client sent: what is not UTF-8 too."""
    line = compile_text("%REQ(x-bytes)% %REQ(x-text)%", PLACE)(stream())
    assert line.encode("utf-8", "surrogateescape") == b"a\xffb \xc3\xa9"


def test_json_keeps_types_and_is_always_json() -> None:
    template = {
        "number": "%RESPONSE_CODE%", "absent": "%REQ(none)%", "text": "%REQ(x-text)%", "bytes": "%REQ(x-bytes)%",
        "both": "%REQ(x-bytes)%!", "quote": "%REQ(x-quote)%", "flags": "%RESPONSE_FLAGS%", "constant": 'a"%%',
        "tree": {"list": ["%RESPONSE_CODE%", None, True, 3.0, 2.5, {}]},
    }  # fmt: skip
    told = json.loads(compile_json(template, PLACE)(stream()))
    assert told == {
        "number": 200, "absent": None, "text": "é", "bytes": "aÿb", "both": "aÿb!", "quote": 'a"b\\c', "flags": "-",
        "constant": 'a"%', "tree": {"list": [200, None, True, 3, 2.5, {}]},
    }  # fmt: skip
    assert list(told) == sorted(template)


def test_what_is_absent_is_left_out_where_that_is_asked_for() -> None:
    template = {"a": "%REQ(none)%", "b": "%REQ(x-bytes)%", "c": {"d": "%REQ(none)%"}, "e": "x%REQ(none)%"}
    told = json.loads(compile_json(template, PLACE, omit_empty=True)(stream()))
    assert told == {"b": "aÿb", "e": "x"}
    assert compile_text("[%REQ(none)%]", PLACE, omit_empty=True)(stream()) == "[]"


@pytest.mark.parametrize(
    "operator",
    [
        "NONSENSE", "REQ", "REQ()", "REQ(a?b?c)", "PROTOCOL(x)", "RESPONSE_CODE:2", "FILTER_STATE(a)", "CEL(a.b)",
        "DOWNSTREAM_WIRE_BYTES_SENT", "COMMON_DURATION(DS_RX_BEG:X:us)", "GRPC_STATUS(x)", "PATH(XQ)",
        "METADATA(ROUTE:a:b)", "ENVIRONMENT()",
    ],
)  # fmt: skip
def test_operators_that_are_not_known_are_refused_by_name(operator: str) -> None:
    with pytest.raises(Refused, match=f"command operator %{operator[:3]}"):
        compile_text(f"%{operator}%", PLACE)


def test_a_half_operator_is_refused() -> None:
    with pytest.raises(Refused, match="malformed command operator"):
        compile_text("%REQ(a", PLACE)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("%Y-%m-%dT%H:%M:%S", "2001-09-09T01:46:40"),
        ("%s", "1000000000"),
        ("%s.%3f", "1000000000.125"),
        ("%1f|%6f|%9f|%f", "1|125000|125000000|125000000"),
        ("%E3f%Ez", "125+00:00"),
        ("%% %3f %%3f", "% 125 %3f"),
        ("%z %Z", "+0000 UTC"),
    ],
)
def test_time_patterns(pattern: str, text: str) -> None:
    assert TimeFormat(pattern, local=False)(1e9 + 0.125) == text


def test_a_kept_second_is_told_anew_when_it_is_over() -> None:
    told = TimeFormat("%S.%3f", local=False)
    assert [told(at) for at in (60.25, 61.5, 60.75)] == ["00.250", "01.500", "00.750"]


def test_local_time_has_the_zone_of_this_machine() -> None:
    assert TimeFormat("%z", local=True)(0.0) == time.strftime("%z", time.localtime(0.0))


@pytest.mark.parametrize(
    ("head", "trailers", "http", "status"),
    [
        (b"0", b"13", 200, "Internal"),
        (b"5", None, 200, "NotFound"),
        (None, None, 503, "Unavailable"),
        (None, None, 200, "Unknown"),
        (b"77", None, 200, "77"),
    ],
)
def test_the_status_of_a_grpc_call(head: bytes | None, trailers: bytes | None, http: int, status: str) -> None:
    request = parse_request(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc+proto")

    def with_status(value: bytes | None) -> Head:
        return Head([] if value is None else [b"grpc-status: " + value], {})

    call = stream(head=request, status=http, response_head=with_status(head), response_trailers=with_status(trailers))
    assert compile_text("%GRPC_STATUS%", PLACE)(call) == status
    assert compile_text("%GRPC_STATUS%", PLACE)(stream()) == "-"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("v", True), ("w", False), (None, True)],
    ids=["matches", "is another", "is absent, which passes by default"],
)
def test_logs_by_dynamic_metadata(value: str | None, wanted: bool) -> None:
    matcher = {"filter": "f", "path": [{"key": "k"}], "value": {"string_match": {"exact": "v"}}}
    config = ParseDict({"metadata_filter": {"matcher": matcher}}, AccessLogFilter())
    metadata = {} if value is None else {"f": {"k": value}}
    assert passes(config, PLACE, tcp=False)(stream(metadata=metadata)) is wanted


def test_an_extension_filter_is_refused() -> None:
    config = ParseDict({"extension_filter": {"name": "envoy.access_loggers.extension_filters.cel"}}, AccessLogFilter())
    with pytest.raises(Refused, match="extension_filter: not supported"):
        check(config, SUPPORTED, PLACE)
