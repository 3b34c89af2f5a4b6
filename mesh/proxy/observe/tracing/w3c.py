"""W3C trace contexts: the `traceparent` and `tracestate` headers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.proxy.observe.tracing.span import Span

PARENT, STATE = b"traceparent", b"tracestate"
_CONTEXT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16


def parse(value: bytes) -> tuple[bytes, bytes, bool] | None:
    """Trace id, span id, and whether it is sampled; None if it cannot be read."""
    found = _CONTEXT.fullmatch(value)
    if found is None or found[1] == b"ff" or found[2] == _NO_TRACE or found[3] == _NO_SPAN:
        return None
    return found[2], found[3], bool(int(found[4], 16) & 1)


def text(span: Span) -> bytes:
    """`traceparent` for the next one; a short trace id is filled up."""
    return f"00-{span.trace_id:0>32}-{span.span_id}-{'01' if span.is_sampled else '00'}".encode()
