"""What a collector of traces received: Zipkin's JSON and OpenTelemetry's protobuf, as spans that cases can judge."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.judge import matches
from harness.wire import Message

Span = dict[str, Any]
COLLECTOR = "collector"  # the upstream of this name receives spans, not requests
_KINDS = {2: "SERVER", 3: "CLIENT"}


def spans(reports: Iterable[Message]) -> Iterator[Span]:
    """The spans of all reports: name, kind, ids, tags, whether they say `shared`, and the service."""
    for report in reports:
        if report.body[:1] == b"[":
            yield from map(_zipkin, json.loads(report.body))
        elif report.body[:1] == b"\0":  # the one message of a gRPC call, which begins with its length
            assert int.from_bytes(report.body[1:5], "big") == len(report.body) - 5
            yield from _opentelemetry(report.body[5:])
        else:
            yield from _opentelemetry(report.body)


def missing(wanted: Iterable[Mapping[str, Any]], seen: Iterable[Span]) -> list[str]:
    """What is wanted of spans and no span has."""
    found = list(seen)
    return [
        f"no span like {one}; there are {[_shown(span, one) for span in found]}"
        for one in wanted
        if not any(_fits(one, span) for span in found)
    ]


def _fits(wanted: Mapping[str, Any], span: Span) -> bool:
    for key, value in wanted.items():
        if key == "tags":
            if not all(matches(text, span["tags"].get(name)) for name, text in value.items()):
                return False
        elif not matches(value, span.get(key)):
            return False
    return True


def _shown(span: Span, like: Mapping[str, Any]) -> Span:
    return {key: span.get(key) for key in like}


def _zipkin(told: Mapping[str, Any]) -> Span:
    return {
        "name": told["name"],
        "kind": told.get("kind"),
        "trace": told["traceId"],
        "id": told["id"],
        "parent": told.get("parentId"),
        "shared": str(told["shared"]).lower() if "shared" in told else None,
        "service": told["localEndpoint"]["serviceName"],
        "tags": told["tags"],
        "error": told["tags"].get("error"),
    }


def _opentelemetry(body: bytes) -> Iterator[Span]:
    for _, resource_spans in _fields(body):
        service = ""
        for number, content in _fields(resource_spans):
            if number == 1:
                service = dict(_attribute(each) for _, each in _fields(content)).get("service.name", "")
            elif number == 2:
                yield from (_otlp_span(each, service) for inner, each in _fields(content) if inner == 2)


def _otlp_span(content: bytes, service: str) -> Span:
    span: Span = {"tags": {}, "service": service}
    for number, value in _fields(content):
        if number in (1, 2, 4):
            span[{1: "trace", 2: "id", 4: "parent"}[number]] = value.hex()
        elif number in (3, 5):
            span["state" if number == 3 else "name"] = value.decode()
        elif number == 6:
            span["kind"] = _KINDS[value]
        elif number == 9:
            name, text = _attribute(value)
            span["tags"][name] = text
        elif number == 15:
            span["error"] = "true" if dict(_fields(value)).get(3) == 2 else None
    return span


def _attribute(content: bytes) -> tuple[str, str]:
    parts = dict(_fields(content))
    return parts[1].decode(), dict(_fields(parts.get(2, b""))).get(1, b"").decode()


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: number and value, bytes for what has a length."""
    at = 0
    while at < len(content):
        key, at = _number(content, at)
        kind = key & 7
        if kind == 0:
            value, at = _number(content, at)
            yield key >> 3, value
            continue
        length = {1: 8, 5: 4}.get(kind)
        if length is None:
            length, at = _number(content, at)
        piece = content[at : at + length]
        at += length
        yield key >> 3, piece if kind == 2 else int.from_bytes(piece, "little")


def _number(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (content[at] & 0x7F) << shift
        shift += 7
        at += 1
        if content[at - 1] < 0x80:
            return value, at
