"""HTTP/1.0, which is 1.1 without chunks, and with a connection that ends unless the client asks to keep it."""

from __future__ import annotations

from mesh.proxy.http1.body import BODILESS
from mesh.proxy.http1.errors import VersionRefusedError
from mesh.proxy.http1.head import RequestHead, ResponseHead
from mesh.proxy.http1.parse import parse_request
from mesh.proxy.http1.reply import STATUS_LINES


def parse_request_10(block: bytes, max_headers: int, default_host: bytes) -> RequestHead:
    """As `parse_request` does, which takes HTTP/1.1 alone. Raises MalformedError."""
    line, _, lines = block.partition(b"\r\n")
    if not line.endswith(b" HTTP/1.0"):
        raise VersionRefusedError("low_version")
    newer = b"%b1" % line[:-1]
    return parse_request(b"%b\r\n%b" % (newer, lines) if lines else newer, max_headers, default_host)


def ends_alone(head: ResponseHead) -> bool:
    """Whether a client can tell where the response ends though its connection stays."""
    return b"content-length" in head.marked or head.status in BODILESS


def status_line_10(status: int) -> bytes:
    return STATUS_LINES[status].replace(b"HTTP/1.1", b"HTTP/1.0", 1)
