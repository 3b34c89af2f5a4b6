"""HTTP/2 under random input: against the independent `hpack` and `h2`, and with its bytes split anywhere."""

from __future__ import annotations

from itertools import pairwise

import h2.config
import h2.connection
import h2.events
import hpack
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.proxy.http2 import huffman
from mesh.proxy.http2.decoder import Decoder
from mesh.proxy.http2.encoder import Encoder
from mesh.proxy.http2.fields import response_field
from mesh.proxy.http2.frames import PREFACE
from mesh.proxy.http2.options import Http2Options
from tests.http2_peers import HeardClientStream, Recorder, client, get, server, shuttle

_NAMES = st.sampled_from([b"a", b"content-type", b"x-b", b"etag", b"date", b"authorization", b"x-long-name" * 5])
_VALUES = st.one_of(
    st.sampled_from([b"", b"v", b"application/grpc", b"z" * 300]),
    st.binary(max_size=40).map(lambda raw: bytes(c for c in raw if 0x20 < c < 0x7F)),
)
_BLOCKS = st.lists(st.lists(st.tuples(_NAMES, _VALUES), max_size=12), min_size=1, max_size=8)


@given(st.binary(max_size=200))
def test_huffman_round_trip(data: bytes) -> None:
    coded = huffman.encode(data)
    assert huffman.decode(coded) == data


@given(_BLOCKS, st.sampled_from([0, 60, 200, 4096]))
def test_their_decoder_reads_what_our_encoder_writes(blocks: list[list[tuple[bytes, bytes]]], limit: int) -> None:
    ours, theirs = Encoder(limit), hpack.Decoder()
    for fields in blocks:
        assert theirs.decode(ours.encode([b"%b: %b" % field for field in fields]), raw=True) == fields


@given(_BLOCKS, st.lists(st.integers(0, 5000), min_size=8, max_size=8))
def test_their_decoder_follows_our_table_sizes(blocks: list[list[tuple[bytes, bytes]]], limits: list[int]) -> None:
    ours, theirs = Encoder(), hpack.Decoder()
    for fields, limit in zip(blocks, limits, strict=False):
        ours.limit(limit)
        theirs.max_allowed_table_size = limit
        assert theirs.decode(ours.encode([b"%b: %b" % field for field in fields]), raw=True) == fields


@given(_BLOCKS, st.booleans())
def test_our_decoder_reads_what_their_encoder_writes(blocks: list[list[tuple[bytes, bytes]]], coded: bool) -> None:
    ours, theirs = Decoder(response_field), hpack.Encoder()
    for fields in blocks:
        read = [(field.name, field.value) for field in ours.decode(theirs.encode(fields, huffman=coded))]
        assert read == fields


def _conversation() -> bytes:
    """A client's bytes with every kind of frame that is allowed."""
    peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
    peer.initiate_connection()
    head = [(":method", "POST"), (":scheme", "http"), (":authority", "mesh.test"), (":path", "/a")]
    for number in (1, 3, 5):
        peer.send_headers(number, [*head, ("cookie", "a=1"), ("cookie", "b=2"), ("x-n", str(number) * 40)])
        peer.send_data(number, b"payload" * 30, pad_length=7)
        peer.ping(b"12345678")
        peer.increment_flow_control_window(1000)
    peer.send_headers(1, [("x-trailer", "t")], end_stream=True)
    peer.reset_stream(3, 8)
    peer.end_stream(5)
    peer.prioritize(7, weight=3, depends_on=1)
    peer.send_headers(9, [*head, *((f"x-{n}", "y" * 700) for n in range(30))], end_stream=True)
    peer.close_connection()
    return bytes(peer.data_to_send())


_CONVERSATION = _conversation()


def _events(pieces: list[bytes]) -> tuple[list[object], bytes]:
    codec, owner = server(Http2Options(max_window_updates_per_data_frame=100))
    out = []
    for piece in pieces:
        codec.receive(piece)
        out.append(codec.take())
    return list(owner.events), b"".join(out)


_WHOLE = _events([_CONVERSATION])


def test_the_conversation_is_understood() -> None:
    kinds = [event[0] for event in _WHOLE[0] if isinstance(event, tuple)]
    assert kinds == [
        *("settings", "request", "payload", "request", "payload", "request", "payload"),
        *("trailers", "reset", "payload", "request", "goaway"),
    ]


@given(st.lists(st.integers(0, len(_CONVERSATION)), max_size=30))
def test_any_split_of_the_bytes_gives_the_same_events_and_answers(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(_CONVERSATION)]
    pieces = [_CONVERSATION[start:end] for start, end in pairwise(places)]
    assert _events(pieces) == _WHOLE


def test_byte_by_byte() -> None:
    assert _events([bytes((byte,)) for byte in _CONVERSATION]) == _WHOLE


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_raise_or_go_unanswered(data: bytes, is_greeted: bool) -> None:
    codec, owner = server()
    if is_greeted:
        codec.receive(PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    codec.receive(data)
    codec.take()
    assert (codec.error is not None) == any(event[0] == "broke" for event in owner.events)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=90_000), st.binary(max_size=90_000)), min_size=1, max_size=4),
    st.sampled_from([1000, 65535, 200_000]),
)
def test_bodies_of_any_size_pass_any_window(bodies: list[tuple[bytes, bytes]], window: int) -> None:
    options = Http2Options(initial_stream_window_size=window, initial_connection_window_size=65535)
    (one, heard), (other, owner) = client(options), server(options)
    shuttle(one, other)
    for body, _ in bodies:
        stream = HeardClientStream(heard.events)
        one.send_request(stream, get(b"/", b"POST"), b"http", False)
        one.send_payload(stream, body, True)
    shuttle(one, other)
    for stream, (_, answer) in zip(owner.streams, bodies, strict=True):
        other.send_head(stream, [b":status: 200"], False)
        other.send_payload(stream, answer, False)
        other.send_trailers(stream, [b"x-t: 1"])
    shuttle(one, other)
    for number, (body, answer) in enumerate(bodies):
        assert _body(owner, 2 * number + 1) == body
        assert _body(heard, 2 * number + 1) == answer
    assert not one.streams
    assert not other.streams


def _body(owner: Recorder, number: int) -> bytes:
    return b"".join(event[2] for event in owner.events if event[0] == "payload" and event[1] == number)
