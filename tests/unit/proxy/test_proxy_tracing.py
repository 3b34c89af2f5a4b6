"""Tracing's parts: contexts that can be read, decisions in request ids, what is written for a collector."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from mesh.proxy.http1.parse import parse_request
from mesh.proxy.observe.counters import OpenTelemetryStats, ZipkinStats
from mesh.proxy.observe.tracing import reporter, w3c
from mesh.proxy.observe.tracing.decision import Reason, RequestIds, Sampling
from mesh.proxy.observe.tracing.opentelemetry import OpenTelemetry, export, framed
from mesh.proxy.observe.tracing.reporter import Collector, Reporter
from mesh.proxy.observe.tracing.span import Span
from mesh.proxy.observe.tracing.zipkin import Zipkin, joined

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Kept:
    """A reporter that keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[bytes] = []

    def add(self, worker: object, span: bytes) -> None:
        self.spans.append(span)


def head(*lines: str) -> Any:
    return parse_request("\r\n".join(("GET /a HTTP/1.1", "host: h", *lines)).encode())


def zipkin(kept: Kept, **options: Any) -> Zipkin:
    known: dict[str, Any] = {"is_long": False, "is_shared": True, "with_w3c": False}
    to: Any = kept
    return Zipkin(to, "s", "10.0.0.1", "n", **known | options)


@pytest.mark.parametrize(
    "value",
    [
        f"00-{TRACE}-{PARENT}", f"00-{TRACE}-{PARENT}-1", f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-", "",
    ],
)  # fmt: skip
def test_contexts_of_w3c_that_cannot_be_read(value: str) -> None:
    assert w3c.parse(value.encode()) is None


def test_a_context_of_w3c() -> None:
    assert w3c.parse(f"00-{TRACE}-{PARENT}-03".encode()) == (TRACE.encode(), PARENT.encode(), True)
    assert w3c.parse(f"00-{TRACE}-{PARENT}-02".encode()) == (TRACE.encode(), PARENT.encode(), False)


@pytest.mark.parametrize(
    "lines",
    [
        ("x-b3-traceid: 1", "x-b3-spanid: 00000000000000cd"),
        ("x-b3-traceid: 00000000000000ab", "x-b3-spanid: cd"),
        ("x-b3-traceid: 00000000000000ab", "x-b3-spanid: 00000000000000cd", "x-b3-parentspanid: x"),
        ("b3: 00000000000000ab",),
        ("b3: x",),
        ("b3: 00000000000000ab-00000000000000cd-2",),
    ],
)
def test_contexts_of_b3_that_cannot_be_read(lines: tuple[str, ...]) -> None:
    assert zipkin(Kept()).begin(head(*lines), is_client=False, is_traced=True) is None


@pytest.mark.parametrize(
    ("request_id", "sampling", "reason", "after"),
    [
        ("00000001-0000-4000-8000-000000000000", Sampling(), Reason.SAMPLING, "9"),
        ("00001388-0000-4000-8000-000000000000", Sampling(random=5000), Reason.NOT_TRACEABLE, "4"),
        ("00001387-0000-4000-8000-000000000000", Sampling(random=5000), Reason.SAMPLING, "9"),
        ("00001387-0000-9000-8000-000000000000", Sampling(overall=4999), Reason.NOT_TRACEABLE, "4"),
        ("00001387-0000-a000-8000-000000000000", Sampling(random=0), Reason.SERVICE_FORCED, "a"),
        ("00001387-0000-b000-8000-000000000000", Sampling(random=0), Reason.CLIENT_FORCED, "b"),
        ("00001387-0000-7000-8000-000000000000", Sampling(random=0), Reason.NOT_TRACEABLE, "7"),
    ],
)
def test_decisions_and_what_the_request_id_says_of_them(
    request_id: str, sampling: Sampling, reason: Reason, after: str
) -> None:
    stream: Any = SimpleNamespace(head=head(f"X-Request-Id: {request_id}"))
    assert RequestIds().decide(stream, sampling) is reason
    marked = stream.head.marked[b"x-request-id"].decode()
    assert marked == f"{request_id[:14]}{after}{request_id[15:]}"
    lines = [line.partition(b": ") for line in stream.head.lines if line.lower().startswith(b"x-request-id")]
    assert [value.decode() for _, _, value in lines] == [marked]


@pytest.mark.parametrize("request_id", ["zz", "", "not-a-number-at-all-but-as-long-as-one"])
def test_a_request_id_without_number_is_not_traced(request_id: str) -> None:
    stream: Any = SimpleNamespace(head=head(f"x-request-id: {request_id}"))
    assert RequestIds().decide(stream, Sampling()) is Reason.NOT_TRACEABLE
    assert RequestIds(decides_sampling=False).decide(stream, Sampling()) is Reason.SAMPLING


def test_a_report_to_zipkin_is_json_whatever_the_tags_hold() -> None:
    kept = Kept()
    span = Span("ab" * 8, "cd" * 8, "ef" * 8, is_client=False, is_sampled=True)
    span.name, span.started, span.ended = 'a "name"', 10.5, 10.75
    worker: Any = None
    zipkin(kept).report(worker, span, [("http.url", 'h/"\\é\ud800')], is_error=False, is_local=True)
    told = json.loads(joined(kept.spans * 2))
    assert len(told) == 2
    assert told[0]["name"] == 'a "name"'
    assert told[0]["parentId"] == "ef" * 8
    assert (told[0]["timestamp"], told[0]["duration"]) == (10_500_000, 250_000)
    assert told[0]["tags"]["node_id"] == "n"


def test_a_report_to_opentelemetry() -> None:
    """Long values too: their length takes more than one byte."""
    kept: Any = Kept()
    span = Span(TRACE, "cd" * 8, PARENT, is_client=True, is_sampled=True)
    span.name, span.started, span.ended, span.remote = "x" * 300, 10.5, 10.75, True
    worker: Any = None
    OpenTelemetry(kept, "node", "").report(worker, span, [("t", "v" * 20_000)], is_error=True, is_local=False)
    body = export("service", "1", (("where", "here"),))(kept.spans)
    assert framed(lambda spans: body)([]) == b"\0" + len(body).to_bytes(4, "big") + body
    assert bytes.fromhex(TRACE) in body
    assert b"\x2a\xac\x02" + b"x" * 300 in body  # field 5, 300 bytes
    assert b"\x0a\xa0\x9c\x01" + b"v" * 20_000 in body
    assert b"\x0a\x05where\x12\x06\x0a\x04here" in body
    assert body.endswith(b"\x7a\x02\x18\x02\x85\x01\x01\x03\x00\x00")  # failed; sampled, and remote


@pytest.mark.parametrize("stats", [ZipkinStats(), OpenTelemetryStats()])
def test_reports_that_nobody_answers_are_dropped_and_counted(stats: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    class Unanswered:
        def __init__(self, *of: Any, body: bytes, **more: Any) -> None:
            sent.append(body)

        def send(self) -> None:
            pass

    monkeypatch.setattr(reporter, "AsyncRequest", Unanswered)
    made = Reporter(Collector("c", "h", "/", (), 1.0), joined, stats)
    timers: list[Any] = []
    timer = SimpleNamespace(cancel=lambda: None)
    worker: Any = SimpleNamespace(loop=SimpleNamespace(call_later=lambda *of: timers.append(of) or timer))
    for _ in range(10 * reporter.FLUSH_ABOVE):
        made.add(worker, b"{}")
    assert len(sent) == 8
    assert stats.spans_sent == 8 * reporter.FLUSH_ABOVE
    dropped = stats.spans_dropped if isinstance(stats, OpenTelemetryStats) else stats.reports_dropped
    assert dropped == (2 * reporter.FLUSH_ABOVE if isinstance(stats, OpenTelemetryStats) else 2)
