"""OpenTelemetry: W3C contexts, spans as OTLP protobuf.

The messages are written here and not by generated code: of a span little changes from one to the next, and the fields
are few (`opentelemetry/proto/trace/v1/trace.proto`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from mesh.proxy.observe.tracing import w3c
from mesh.proxy.observe.tracing.span import Span, Tags, new_id, put

if TYPE_CHECKING:
    from mesh.proxy.http1.head import RequestHead
    from mesh.proxy.observe.tracing.reporter import Reporter
    from mesh.proxy.runtime import Worker

_SERVER, _CLIENT = b"\x30\x02", b"\x30\x03"  # field 6, kind
_FAILED = b"\x7a\x02\x18\x02"  # field 15, status: code ERROR
FORM = "w3c"
_HAS_REMOTE, _IS_REMOTE = 0x100, 0x200


class OpenTelemetry:
    """`OpenTelemetryConfig`, as a `Provider`."""

    __slots__ = ("_first", "_reporter")

    def __init__(self, reporter: Reporter, node_id: str, zone: str) -> None:
        self._reporter = reporter
        self._first = _tags((("node_id", node_id), ("zone", zone)))

    def default_name(self, head: RequestHead, *, is_client: bool) -> str:
        return f"egress {head.authority.decode('latin-1')}" if is_client else "ingress"

    def begin(self, head: RequestHead, *, is_client: bool, is_traced: bool) -> Span | None:
        value = head.marked.get(w3c.PARENT)
        if value is None:
            first = Span(new_id() + new_id(), new_id(), "", is_client=is_client, is_sampled=is_traced)
            first.form = FORM
            return first
        found = w3c.parse(value)
        if found is None:
            return None
        trace_id, parent, sampled = found
        span = Span(trace_id.decode(), new_id(), parent.decode(), is_client=is_client, is_sampled=sampled and is_traced)
        span.state = head.marked.get(w3c.STATE, b"")
        span.remote = True
        span.form = FORM
        return span

    def inject(self, span: Span, head: RequestHead) -> None:
        put(head, ((w3c.PARENT, w3c.text(span)), (w3c.STATE, span.state)))

    def report(self, worker: Worker, span: Span, tags: Tags, *, is_error: bool, is_local: bool) -> None:
        flags = _HAS_REMOTE | span.is_sampled | (_IS_REMOTE if span.remote else 0)
        self._reporter.add(
            worker,
            b"".join(
                (
                    b"\x0a\x10", bytes.fromhex(f"{span.trace_id:0>32}"),
                    b"\x12\x08", bytes.fromhex(span.span_id),
                    _field(0x1A, span.state) if span.state else b"",
                    b"\x22\x08" + bytes.fromhex(span.parent) if span.parent else b"",
                    _field(0x2A, span.name.encode("utf-8", "replace")),
                    _CLIENT if span.is_client else _SERVER,
                    b"\x39", (int(span.started * 1e6) * 1000).to_bytes(8, "little"),
                    b"\x41", (int(span.ended * 1e6) * 1000).to_bytes(8, "little"),
                    self._first if is_local else b"",
                    _tags(tags),
                    _FAILED if is_error else b"",
                    b"\x85\x01", flags.to_bytes(4, "little"),
                )
            ),
        )  # fmt: skip


def _length(length: int) -> bytes:
    """A base-128 number."""
    if length < 0x80:
        return length.to_bytes(1, "little")
    written = bytearray()
    while length >= 0x80:
        written.append(length & 0x7F | 0x80)
        length >>= 7
    written.append(length)
    return bytes(written)


def _field(tag: int, content: bytes) -> bytes:
    return b"%c%b%b" % (tag, _length(len(content)), content)


@lru_cache(maxsize=1024)
def _key(name: str) -> bytes:
    return _field(0x0A, name.encode("utf-8", "replace"))


def _tags(tags: Iterable[tuple[str, str]]) -> bytes:
    """Attributes of a span (field 9)."""
    return b"".join([_tag(name, value.encode("utf-8", "replace")) for name, value in tags])


def _tag(name: str, value: bytes) -> bytes:
    key, length = _key(name), len(value)
    whole = len(key) + length + 4
    if whole < 0x80:  # every length takes one byte, as those of most tags do
        return b"\x4a%c%b\x12%c\x0a%c%b" % (whole, key, length + 2, length, value)
    return _field(0x4A, key + _field(0x12, _field(0x0A, value)))


def export(service: str, version: str, attributes: Iterable[tuple[str, str]]) -> Callable[[list[bytes]], bytes]:
    """How the spans of a service become an ExportTraceServiceRequest."""
    told = {
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "meshdrill",
        "telemetry.sdk.version": version,
        "service.name": service,
        **dict(attributes),
    }
    resource = _field(
        0x0A,
        b"".join(_field(0x0A, _key(name) + _field(0x12, _field(0x0A, value.encode()))) for name, value in told.items()),
    )
    scope = _field(0x0A, _field(0x0A, b"meshdrill") + _field(0x12, version.encode()))

    def joined(spans: list[bytes]) -> bytes:
        scoped = scope + b"".join(_field(0x12, span) for span in spans)
        return _field(0x0A, resource + _field(0x12, scoped))

    return joined


def framed(join: Callable[[list[bytes]], bytes]) -> Callable[[list[bytes]], bytes]:
    """The same as the one message of a gRPC call."""

    def joined(spans: list[bytes]) -> bytes:
        message = join(spans)
        return b"\0" + len(message).to_bytes(4, "big") + message

    return joined
