"""What is fuzzed: by name a function that takes bytes and raises for a finding, with inputs to start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fuzz.http2 import HTTP2_SEEDS, HTTP2_TOKENS, check_hpack, check_http2
from mesh.proxy.http1.body import Chunked
from mesh.proxy.http1.errors import MalformedError
from mesh.proxy.http1.head import Head
from mesh.proxy.http1.parse import parse_request, parse_response

_MANY = 10_000


class Finding(AssertionError):
    """The code under test did what it must not."""


@dataclass(frozen=True)
class Target:
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    tokens: Sequence[bytes]


_LINES = (
    b"Host: a", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Connection: close, x", b"X-A:b", b"X-A: ",
    b"Upgrade: websocket", b"TE: trailers", b"Expect: 100-continue", b"x-forwarded-for: 1.2.3.4",
)  # fmt: skip
_HEAD_TOKENS = (b"\r\n", b"\n", b"\r", b":", b" ", b"\t", b"\0", b"HTTP/1.1", b"HTTP/1.0", b"GET ", *_LINES)


def check_request(data: bytes) -> None:
    """A head is refused with MalformedError, or is one that reads the same when it is written again."""
    try:
        head = parse_request(data)
    except MalformedError:
        return
    _check_lines(head)
    # An absolute target becomes a Host line, which may be one more than the limit.
    again = parse_request(b"\r\n".join((b"%b %b HTTP/1.1" % (head.method, head.target), *head.lines)), _MANY)
    seen, known = ((each.method, each.target, each.authority, each.lines, each.items()) for each in (again, head))
    if seen != known:
        raise Finding(f"{known} reads as {seen} when it is written again")


def check_response(data: bytes) -> None:
    """Likewise."""
    try:
        head = parse_response(data)
    except MalformedError:
        return
    _check_lines(head)
    if not 100 <= head.status <= 999:
        raise Finding(f"status {head.status}")


def _check_lines(head: Head) -> None:
    for line in head.lines:
        if b"\r" in line or b"\n" in line or b"\0" in line or b":" not in line:
            raise Finding(f"a line that splits a message: {line!r}")
    for name, value in head.items():
        if head.get(name) is None or value != value.strip(b" \t"):
            raise Finding(f"{name!r} is listed and not found")


def check_chunks(data: bytes) -> None:
    """The first byte says how the rest is cut; payload, end and what follows are the same uncut."""
    whole = _read_chunks([data[1:]])
    step = data[0] % 7 + 1 if data else 1
    cut = _read_chunks([data[at : at + step] for at in range(1, len(data), step)])
    if whole != cut:
        raise Finding(f"uncut {whole}, in pieces of {step} {cut}")


def _read_chunks(pieces: list[bytes]) -> tuple[bytes, bool, bytes, tuple[bytes, ...]] | None:
    """Payload, whether it ended, what follows, trailers; None for what is refused."""
    body = Chunked()
    payload = rest = b""
    try:
        for piece in pieces:
            if body.done:
                rest += piece
                continue
            payload += body.take(piece)
            if body.done:
                rest += body.rest
    except MalformedError:
        return None
    return payload, body.done, rest, tuple(body.trailers)


def check_head(data: bytes) -> None:
    check_request(data)
    check_response(data)


TARGETS = {
    "head": Target(
        check_head,
        [
            *(b"GET /a?b HTTP/1.1\r\nHost: a\r\n" + line for line in _LINES),
            b"HTTP/1.1 200 OK\r\nServer: x\r\nDate: y",
            b"OPTIONS * HTTP/1.1\r\nHost: a",
            b"GET http://a/b HTTP/1.1\r\nHost: c",
            b"CONNECT a:1 HTTP/1.1\r\nHost: a:1",
        ],
        _HEAD_TOKENS,
    ),
    "chunks": Target(
        check_chunks,
        [
            b"\x003\r\nabc\r\n0\r\n\r\n",
            b"\x02a;x=y\r\n0123456789\r\n0\r\nx-t: 1\r\n\r\nGET /",
            b"\x01FFFFFFFFFFFFFFFF\r\n",
            b"\x061\r\na\r\n1\r\nb\r\n00\r\n\r\n",
        ],
        (b"\r\n", b"\n", b"\r", b";", b"0\r\n\r\n", b"0", b"f", b" ", b"\0", b"x: y\r\n"),
    ),
    "http2": Target(check_http2, HTTP2_SEEDS, HTTP2_TOKENS),
    "hpack": Target(
        check_hpack,
        [b"\x82\x84\x86\x41\x01a", b"\x40\x01a\x01b\xbe\x3f\x00", b"\x00\x83\xff\xff\xff"],
        (b"\xbe", b"\x20", b"\x40", b"\x10", b"\x3f\xe1\x1f", b"\xff\x80\x80"),
    ),
}
