"""Compares what was seen with what a case expects. Pure: values in, the list of differences out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from harness.case import Expect, pairs
from harness.client import Answer
from harness.upstream import Record
from harness.wire import Message

VARYING = frozenset({"date"})


def matches(wanted: Any, seen: str | None) -> bool:
    """None wants absence, `~regex` a whole match, `*` any value, all else equality as text."""
    if wanted is None or seen is None:
        return wanted is None and seen is None
    text = str(wanted)
    if text == "*":
        return True
    if text.startswith("~"):
        return re.fullmatch(text[1:], seen, re.DOTALL) is not None
    return text == seen


def differ(what: str, wanted: Any, seen: Any) -> Iterator[str]:
    """A difference, if there is one, in words."""
    if isinstance(wanted, str) and isinstance(seen, str | int | None):
        if not matches(wanted, None if seen is None else str(seen)):
            yield f"{what}: wanted {wanted!r}, saw {seen!r}"
    elif wanted != seen:
        yield f"{what}: wanted {wanted!r}, saw {seen!r}"


def judge_headers(what: str, wanted: Mapping[str, Any], message: Message) -> Iterator[str]:
    """Each wanted header against all its values, joined by `, ` when it came more than once."""
    for name, value in wanted.items():
        seen = message.values(name)
        joined = ", ".join(seen) if seen else None
        if not matches(value, joined):
            yield f"{what} {name}: wanted {value!r}, saw {joined!r}"


def judge_answer(expect: Expect, answer: Answer) -> Iterator[str]:
    """Statuses, bodies, headers and framing that the client saw."""
    if expect.status is not None:
        many = isinstance(expect.status, list)
        seen = [response.status for response in answer.responses]
        yield from differ("status", expect.status if many else [expect.status], seen)
    if expect.informational is not None:
        yield from differ("informational", expect.informational, answer.informational)
    if expect.connection is not None:
        yield from differ("connection", expect.connection, "cut" if answer.cut else answer.connection)
    if expect.certificate is not None:
        yield from differ("certificate", expect.certificate, answer.certificate)
    if expect.reset is not None:
        yield from differ("RST_STREAM", expect.reset, answer.reset)
    if expect.goaway is not None:
        yield from differ("GOAWAY", expect.goaway, answer.goaway)
    last = answer.responses[-1] if answer.responses else None
    if last is None:
        if expect.body is not None:
            yield from differ("bytes", expect.body, answer.received.decode("latin-1"))
        return
    yield from judge_response(expect, last)


def judge_response(expect: Expect, response: Message) -> Iterator[str]:
    """The last response in detail."""
    body = response.body.decode("latin-1")
    if expect.reason is not None:
        yield from differ("reason", expect.reason, response.start.split(" ", 2)[2])
    if expect.body is not None:
        yield from differ("body", expect.body, body)
    if expect.body_has is not None and expect.body_has not in body:
        yield f"body: wanted {expect.body_has!r} in it, saw {body!r}"
    if expect.body_size is not None:
        yield from differ("body size", expect.body_size, len(body))
    if expect.framing is not None:
        yield from differ("framing", expect.framing, response.framing)
    if expect.trailers is not None:
        yield from differ("trailers", pairs(expect.trailers), response.trailers)
    if expect.header_names is not None:
        seen = [name.lower() for name, _ in response.headers if name.lower() not in VARYING]
        yield from differ("header names", expect.header_names, seen)
    yield from judge_headers("header", expect.headers or {}, response)


def judge_forwarded(expect: Expect, records: list[Record]) -> Iterator[str]:
    """Which upstreams were asked, in order, and what each of them received."""
    if expect.upstream != "?":
        wanted = [] if expect.upstream is None else expect.upstream
        wanted = wanted if isinstance(wanted, list) else [wanted]
        yield from differ("upstreams", wanted, [record.upstream for record in records])
    if expect.served is not None:
        yield from differ("served", dict(expect.served), dict(Counter(record.upstream for record in records)))
    if expect.rotation is not None:
        yield from judge_rotation(expect.rotation, [record.upstream for record in records])
    if expect.forwarded is None:
        return
    wanted = expect.forwarded if isinstance(expect.forwarded, list) else [expect.forwarded]
    if len(wanted) != len(records):
        yield f"forwarded: wanted {len(wanted)} requests, saw {[record.message.start for record in records]}"
        return
    for one, record in zip(wanted, records, strict=True):
        yield from judge_record(one, record)


def judge_rotation(wanted: list[str], seen: list[str]) -> Iterator[str]:
    """The upstreams in this order again and again, from whichever one the engine began with."""
    start = wanted.index(seen[0]) if seen and seen[0] in wanted else 0
    rotation = [wanted[(start + turn) % len(wanted)] for turn in range(len(seen))]
    yield from differ("rotation", rotation, seen)


def judge_record(wanted: Mapping[str, Any], record: Record) -> Iterator[str]:
    """One forwarded request: its start line, headers, body, trailers, framing, and the connection it came over."""
    message = record.message
    method, path, version = message.start.split(" ")
    seen: dict[str, Any] = {
        "method": method,
        "path": path,
        "version": version,
        "body": message.body.decode("latin-1"),
        "body_size": len(message.body),
        "framing": message.framing,
        "complete": record.complete,
        "connection": record.connection,
        "sni": record.sni,
        "reset": message.reset,
        "trailers": dict(message.trailers),
        "header_names": [name.lower() for name, _ in message.headers],
        "raw_names": [name for name, _ in message.headers],
    }
    for key, value in wanted.items():
        if key == "headers":
            yield from judge_headers("forwarded", value, message)
        elif key not in seen:
            yield f"the case wants {key!r} of a forwarded request, which the harness does not know"
        else:
            yield from differ(f"forwarded {key}", value, seen[key])


def judge_log(expect: Expect, entry: Mapping[str, str] | None) -> Iterator[str]:
    """Flags, details and other fields of the access-log line."""
    wanted = {"flags": expect.flags, "details": expect.details, **(expect.log or {})}
    wanted = {key: value for key, value in wanted.items() if value is not None}
    if wanted and entry is None:
        yield f"access log: no line came; wanted {wanted}"
        return
    for key, value in wanted.items():
        yield from differ(f"log {key}", str(value), (entry or {}).get(key))


def judge_stats(wanted: Mapping[str, int | str], before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[str]:
    """Counters and gauges as changes since the case began, or as they are where the case says `"=3"`; one that an
    engine does not have is a difference.
    """
    for name, value in wanted.items():
        if isinstance(value, str):
            yield from differ(f"stat {name}", int(value.removeprefix("=")), after.get(name))
        elif name not in after and value != 0:
            yield f"stat {name}: wanted {value:+d}, the engine has no such stat"
        else:
            yield from differ(f"stat {name}", value, after.get(name, 0) - before.get(name, 0))
