"""The parsers give one result however the bytes arrive."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.proxy.http1.body import LAST_CHUNK, Chunked, Sized, chunk, is_whole, response_body
from mesh.proxy.http1.errors import MalformedError
from mesh.proxy.http1.head import Head
from mesh.proxy.http1.names import REQUEST_NAMES, RESPONSE_NAMES
from mesh.proxy.http1.parse import parse_request, parse_response

TOKEN = st.text("abcXYZ019-_.!~", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30)
HEADERS = st.lists(st.tuples(TOKEN.map(lambda name: f"x-{name}"), VALUE), max_size=8)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at these places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(
    payloads=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    rest=st.binary(max_size=9),
    cuts=st.lists(st.integers(0)),
)
def test_a_chunked_body_is_the_same_however_it_is_cut(payloads: list[bytes], rest: bytes, cuts: list[int]) -> None:
    wire = b"".join(chunk(payload) for payload in payloads) + LAST_CHUNK
    body = Chunked()
    taken = b""
    left = b""
    for piece in pieces(wire + rest, cuts):
        if body.done:
            left += piece
        else:
            taken += body.take(piece)
            left = body.rest
    assert body.done
    assert taken == b"".join(payloads)
    assert left == rest


@given(payload=st.binary(min_size=1, max_size=60), rest=st.binary(max_size=9), cuts=st.lists(st.integers(0)))
def test_a_sized_body_takes_what_is_its_own(payload: bytes, rest: bytes, cuts: list[int]) -> None:
    body = Sized(len(payload))
    taken = left = b""
    for piece in pieces(payload + rest, cuts):
        if body.done:
            left += piece
        else:
            taken += body.take(piece)
            left = body.rest
    assert (taken, left, body.done) == (payload, rest, True)


@given(headers=HEADERS, method=st.sampled_from(["GET", "POST"]), path=TOKEN)
def test_a_request_head_keeps_its_headers(headers: list[tuple[str, str]], method: str, path: str) -> None:
    lines = [f"{name}:{value}".encode("latin-1") for name, value in headers]
    head = parse_request(b"\r\n".join((f"{method} /{path} HTTP/1.1".encode(), b"Host: a", *lines)))
    assert (head.method, head.target, head.authority) == (method.encode(), f"/{path}".encode(), b"a")
    for name in {name.lower() for name, _ in headers}:
        values = [value.encode("latin-1").strip(b" \t") for other, value in headers if other.lower() == name]
        assert head.get(name.encode()) == b",".join(values)
    assert head.get(b"x-not-there-at-all-") is None
    assert head.items()[1:] == [(n.lower().encode(), v.encode("latin-1").strip(b" \t")) for n, v in headers]


@given(head=st.binary(max_size=80))
def test_any_bytes_are_a_head_or_malformed(head: bytes) -> None:
    for parse in (parse_request, parse_response):
        try:
            parsed = parse(head)
        except MalformedError:
            continue
        assert not any(byte < 0x20 and byte != 0x09 for line in parsed.lines for byte in line)


@given(data=st.binary(max_size=60), cuts=st.lists(st.integers(0)))
def test_any_bytes_end_a_chunked_body_alike_whole_or_cut(data: bytes, cuts: list[int]) -> None:
    def outcome(parts: list[bytes]) -> tuple[bytes, bool]:
        body, taken = Chunked(), b""
        for part in parts:
            if body.done:
                break
            taken += body.take(part)
        return taken, body.done

    try:
        whole = outcome([data])
    except MalformedError:
        with pytest.raises(MalformedError):
            outcome(pieces(data, cuts))
    else:
        assert outcome(pieces(data, cuts)) == whole


REPEATING = st.sampled_from(["Accept", "connection", "content-type", "Date", "HOST", "server", "x-other", "te"])
VALUES = st.sampled_from(["a", " a", "a \t", "b,c", "keep-alive", ""])


@given(headers=st.lists(st.tuples(REPEATING, VALUES), max_size=6), is_request=st.booleans())
def test_a_line_that_was_seen_before_means_the_same(headers: list[tuple[str, str]], is_request: bool) -> None:
    parse, names = (parse_request, REQUEST_NAMES) if is_request else (parse_response, RESPONSE_NAMES)
    start = b"GET / HTTP/1.1\r\nx-first: 1" if is_request else b"HTTP/1.1 200 OK"
    block = b"\r\n".join((start, *(f"{name}:{value}".encode() for name, value in headers)))
    names.seen.clear()
    read = [outcome(parse, block) for _ in range(3)]
    assert read[0] == read[1] == read[2]


def outcome(parse: Callable[[bytes], Head], block: bytes) -> object:
    try:
        head = parse(block)
    except MalformedError as error:
        return error.details
    return head.lines, head.marked


def test_the_lines_that_are_remembered_are_few() -> None:
    for number in range(5000):
        parse_response(b"HTTP/1.1 200 OK\r\ndate: %d\r\nx-request-id: %d" % (number, number))
    assert 0 < len(RESPONSE_NAMES.seen) <= 512
    assert not any(line.startswith(b"x-request-id") for line in RESPONSE_NAMES.seen)
    before = len(RESPONSE_NAMES.seen)
    parse_response(b"HTTP/1.1 200 OK\r\ndate: " + b"x" * 1000)
    assert len(RESPONSE_NAMES.seen) == before


@given(
    status=st.sampled_from([101, 200, 204, 206, 304, 500]),
    method=st.sampled_from([b"GET", b"HEAD"]),
    headers=st.lists(st.sampled_from([b"content-length: 3", b"content-length: 03", b"transfer-encoding: chunked"])),
    payload=st.binary(min_size=1, max_size=5),
)
def test_a_body_that_need_not_be_counted_counts_to_its_end(
    status: int, method: bytes, headers: list[bytes], payload: bytes
) -> None:
    try:
        head = parse_response(b"\r\n".join((b"HTTP/1.1 %d OK" % status, *headers)))
    except MalformedError:
        return
    if not is_whole(head, method, payload):
        return
    body = response_body(head, method)
    assert body is not None
    assert (body.take(payload), body.done, body.rest) == (payload, True, b"")


def test_a_body_as_long_as_its_head_says_need_not_be_counted() -> None:
    head = parse_response(b"HTTP/1.1 200 OK\r\ncontent-length: 3")
    assert is_whole(head, b"GET", b"abc")
    assert not is_whole(head, b"GET", b"ab")
    assert not is_whole(head, b"HEAD", b"abc")
