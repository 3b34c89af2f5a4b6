"""What a connection manager adds to every response's head, last of all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mesh.proxy.http1.head import ResponseHead

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream

ResponseMark = Callable[["Stream", ResponseHead], None]


def request_id(stream: Stream, head: ResponseHead) -> None:
    """always_set_request_id_in_response."""
    value = stream.head.marked.get(b"x-request-id")
    if value is not None:
        head.set(b"x-request-id", value)


def via(value: bytes) -> ResponseMark:
    def mark(stream: Stream, head: ResponseHead) -> None:
        before = head.get(b"via")
        head.set(b"via", value if before is None else b"%b, %b" % (before, value))

    return mark
