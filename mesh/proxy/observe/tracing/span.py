"""What a span is, and who makes, writes and reads one: a provider."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mesh.proxy.http1.head import RequestHead
    from mesh.proxy.runtime import Worker

Tags = list[tuple[str, str]]


class Span:
    """One side of one request. Ids are lower-case hex, `parent` is empty for the first of a trace; `is_sampled` is what
    is reported, `is_forced` whether a service asked for it; times are seconds since the epoch.

    `form` says in which headers the context goes on; `remote` whether it came in any.
    """

    __slots__ = (
        "ended", "form", "is_client", "is_forced", "is_sampled", "name", "parent", "remote", "span_id", "started",
        "state", "trace_id", "upstream",
    )  # fmt: skip

    def __init__(self, trace_id: str, span_id: str, parent: str, *, is_client: bool, is_sampled: bool) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent = parent
        self.is_client = is_client
        self.is_sampled = is_sampled
        self.is_forced = False
        self.remote = False
        self.state = b""
        self.form = ""
        self.name = ""
        self.started = 0.0
        self.ended = 0.0
        self.upstream: Span | None = None

    def child(self) -> Span:
        """The span of the request to the upstream."""
        span = Span(self.trace_id, new_id(), self.span_id, is_client=True, is_sampled=self.is_sampled)
        span.state, span.form = self.state, self.form
        return span


def put(head: RequestHead, headers: Collection[tuple[bytes, bytes]]) -> None:
    """Set headers, whose names are all `certain`, in place of any of these names."""
    marked = head.marked
    for name, value in headers:
        if name in marked:
            head.remove((name,))
        marked[name] = value
        head.lines.append(b"%b: %b" % (name, value))


def new_id() -> str:
    """64 random bits that are not all zero: unique, not secret."""
    return f"{random.getrandbits(64) or 1:016x}"


class Provider(Protocol):
    """A tracing system: Zipkin, OpenTelemetry."""

    def begin(self, head: RequestHead, *, is_client: bool, is_traced: bool) -> Span | None:
        """The span of a request, in the trace that its headers name; None if they cannot be read."""

    def inject(self, span: Span, head: RequestHead) -> None:
        """Tell the upstream of `span`."""

    def default_name(self, head: RequestHead, *, is_client: bool) -> str:
        """The name of a span whose route has no decorator."""

    def report(self, worker: Worker, span: Span, tags: Tags, *, is_error: bool, is_local: bool) -> None:
        """Send it to the collector, some time soon. `is_local` is false for the span of a request to the upstream."""
