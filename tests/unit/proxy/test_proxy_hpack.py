"""HPACK by the examples of RFC 7541's appendix C, and what the encoder does with the table."""

from __future__ import annotations

import pytest

from mesh.proxy.http2 import huffman
from mesh.proxy.http2.decoder import Decoder
from mesh.proxy.http2.encoder import Encoder, integer
from mesh.proxy.http2.errors import HpackBroke
from mesh.proxy.http2.fields import request_field, response_field

Pairs = list[tuple[bytes, bytes]]


def pairs(decoder: Decoder, block: bytes) -> Pairs:
    return [(field.name, field.value) for field in decoder.decode(block)]


def lines(fields: Pairs) -> list[bytes]:
    return [b"%b: %b" % field for field in fields]


@pytest.mark.parametrize(
    ("value", "bits", "wire"),
    [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a"), (30, 5, "1e"), (31, 5, "1f00"), (0, 7, "00")],
)
def test_integers_are_written_as_appendix_c1_has_them(value: int, bits: int, wire: str) -> None:
    assert integer(value, bits, 0).hex() == wire


_REQUESTS: list[Pairs] = [
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")],
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ],
]


@pytest.mark.parametrize(
    "blocks",
    [
        (
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ),
        (
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ),
    ],
    ids=["C.3 plain", "C.4 Huffman"],
)
def test_requests_of_the_appendix_are_read(blocks: tuple[str, ...]) -> None:
    decoder = Decoder(request_field)
    assert [pairs(decoder, bytes.fromhex(block)) for block in blocks] == _REQUESTS


def test_a_table_of_256_bytes_evicts_as_appendix_c5_does() -> None:
    decoder = Decoder(response_field)
    decoder.decode(bytes.fromhex("3fe101"))  # table size 256
    first = pairs(
        decoder,
        bytes.fromhex(
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e17687474"
            "70733a2f2f7777772e6578616d706c652e636f6d"
        ),
    )
    assert first == [
        (b":status", b"302"),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        (b"location", b"https://www.example.com"),
    ]
    second = pairs(decoder, bytes.fromhex("4803333037c1c0bf"))
    assert second == [(b":status", b"307"), *first[1:]]


@pytest.mark.parametrize(
    "block",
    ["80", "be", "ff" * 6, "4005", "0085", "00830a0a", "3fffffff7f", "8230"],
    ids=[
        "index 0",
        "index past the table",
        "endless integer",
        "string past the end",
        "no string",
        "bad padding",
        "a table size over the limit",
        "a size update after a field",
    ],
)
def test_blocks_that_cannot_be_decoded_are_refused(block: str) -> None:
    with pytest.raises(HpackBroke):
        Decoder(request_field).decode(bytes.fromhex(block))


def test_huffman_refuses_eos_and_long_padding() -> None:
    for coded in (b"\xff\xff\xff\xff", huffman.encode(b"a") + b"\xff"):
        with pytest.raises(HpackBroke):
            huffman.decode(coded)


def test_what_repeats_becomes_an_index_and_what_does_not_leaves_the_table_alone() -> None:
    encoder = Encoder()
    blocks = [encoder.encode([b"content-type: application/grpc", b"x-request-id: %d" % n]) for n in range(5)]
    unique = len(b"\x00\x0cx-request-id\x010")
    assert [len(block) - unique for block in blocks[2:]] == [1, 1, 1]
    decoder = Decoder(request_field)
    for number, block in enumerate(blocks):
        assert pairs(decoder, block) == [(b"content-type", b"application/grpc"), (b"x-request-id", b"%d" % number)]


def test_names_are_lowered_and_connection_specific_lines_left_out() -> None:
    block = Encoder().encode([b"X-Foo:  Bar ", b"Connection: close", b"Transfer-Encoding: chunked", b"te: trailers"])
    assert pairs(Decoder(request_field), block) == [(b"x-foo", b"Bar"), (b"te", b"trailers")]


def test_secrets_are_never_indexed() -> None:
    encoder = Encoder()
    blocks = {encoder.encode([b"authorization: Bearer x"]) for _ in range(3)}
    assert blocks == {b"\x1f\x08\x08Bearer x"}


def test_the_encoder_follows_the_peers_table_size() -> None:
    encoder, decoder = Encoder(), Decoder(request_field)
    fields = [(b"x-%d" % n, b"v" * 40) for n in range(30)]
    for limit in (4096, 200, 0, 1000):
        encoder.limit(limit)
        blocks = [encoder.encode(lines(fields)) for _ in range(3)]
        assert blocks[0].startswith(b"" if limit == 4096 else integer(limit, 5, 0x20))
        for block in blocks:
            assert pairs(decoder, block) == fields


_LONG = bytes.fromhex("828684410161") + b"\x40\x01x\x7f\x81\x07" + b"v" * 1024 + b"\xbe\x90"


@pytest.mark.parametrize("size", [1, 2, 7, 100, 1000, len(_LONG)])
def test_a_block_in_pieces_means_what_it_means_whole(size: int) -> None:
    whole, decoder = Decoder(request_field), Decoder(request_field)
    for at in range(0, len(_LONG), size):
        decoder.begin(_LONG[at : at + size], 100, 60_000)
    assert decoder.decode(b"") == whole.decode(_LONG)
    assert pairs(decoder, b"\xbe") == [(b"x", b"v" * 1024)]


@pytest.mark.parametrize(("most", "room", "kept"), [(3, 60_000, 4), (100, 50, 2)])
def test_of_a_block_beyond_the_limits_the_tables_take_note_and_little_is_kept(most: int, room: int, kept: int) -> None:
    decoder = Decoder(request_field)
    for _ in range(5):
        decoder.begin(b"\x90" * 1000, most, room)
    decoder.begin(b"\x40\x01x\x01v", most, room)
    assert len(decoder.decode(b"")) == kept
    assert pairs(decoder, b"\xbe") == [(b"x", b"v")]


@pytest.mark.parametrize("piece", [b"\x00\x7f\x82\xff\x03", b"\x00\x01x\x7f\x82\xff\x03"])
def test_a_string_that_would_be_too_long_is_not_waited_for(piece: bytes) -> None:
    with pytest.raises(HpackBroke, match="too long"):
        Decoder(request_field).begin(piece, 100, 60_000)


def test_a_block_in_pieces_that_ends_within_a_field_is_broken() -> None:
    decoder = Decoder(request_field)
    decoder.begin(b"\x82\x40\x01x\x05v", 100, 60_000)
    with pytest.raises(HpackBroke):
        decoder.decode(b"v")
