"""The parsers give one result however the bytes arrive."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.proxy.http1.body import LAST_CHUNK, Chunked, Sized, chunk
from mesh.proxy.http1.errors import MalformedError
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
