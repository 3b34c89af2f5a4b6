"""The HTTP/2 codec: what the other tests do not show from outside."""

from __future__ import annotations

import pytest

from mesh.proxy.http2 import errors, frames
from mesh.proxy.http2.options import Http2Options
from mesh.proxy.http2.server import ServerConnection
from mesh.proxy.http2.stats import Http2Stats
from tests.http2_peers import HeardClientStream, HeardServerStream, Recorder, client, get, server, shuttle

_HELLO = frames.PREFACE + frames.settings(())


def greeted(options: Http2Options) -> tuple[ServerConnection[HeardServerStream], Recorder]:
    codec, owner = server(options)
    codec.receive(_HELLO)
    codec.take()
    owner.events.clear()
    return codec, owner


def kinds(wire: bytes) -> list[int]:
    """The types of the frames in what was written."""
    found, at = [], 0
    while at < len(wire):
        found.append(wire[at + 3])
        at += 9 + int.from_bytes(wire[at : at + 3], "big")
    return found


def test_who_speaks_no_http2_gets_no_frames() -> None:
    codec, owner = server()
    codec.receive(b"GET / HTTP/1.1\r\n\r\n")
    assert owner.events == [("broke", errors.PROTOCOL_ERROR, "bad preface")]
    assert codec.take() == b""


def test_the_first_frame_must_be_settings() -> None:
    codec, owner = server()
    codec.receive(frames.PREFACE + frames.ping(b"12345678"))
    assert owner.events == [("broke", errors.PROTOCOL_ERROR, "the first frame is not SETTINGS")]


def test_output_is_asked_for_once_until_it_is_taken() -> None:
    codec, owner = greeted(Http2Options())
    for _ in range(3):
        codec.send_ping(b"12345678")
    assert owner.pending == 1
    assert kinds(codec.take()) == [frames.PING] * 3
    codec.send_ping(b"12345678")
    assert owner.pending == 2


@pytest.mark.parametrize("code", [errors.PROTOCOL_ERROR, errors.INTERNAL_ERROR])
def test_a_connection_that_is_closed_says_goodbye_once_and_reads_no_more(code: int) -> None:
    codec, owner = greeted(Http2Options())
    codec.close(code, "why")
    codec.close(errors.NO_ERROR, "again")
    codec.receive(frames.ping(b"12345678"))
    assert codec.take() == frames.goaway(0, code, b"why")
    assert owner.events == [("broke", code, "why")]


def test_frames_that_the_peer_does_not_read_are_a_flood() -> None:
    codec, owner = greeted(Http2Options(max_outbound_control_frames=3))
    owner.drained = False
    codec.count_from_here()
    for _ in range(3):
        codec.receive(frames.ping(b"12345678"))
        codec.take()
    assert codec.error is None
    codec.receive(frames.ping(b"12345678"))
    assert owner.events == [("broke", errors.ENHANCE_YOUR_CALM, "http2.outbound_control_flood")]
    assert codec.stats.outbound_control_flood == 1


def test_frames_that_the_peer_reads_are_none_however_many() -> None:
    codec, owner = greeted(Http2Options(max_outbound_control_frames=3, max_outbound_frames=5))
    for _ in range(50):
        codec.receive(frames.ping(b"12345678"))
        assert kinds(codec.take()) == [frames.PING]
    assert owner.events == []


def test_payload_beyond_the_buffer_limit_stops_its_producer_until_half_of_it_has_left() -> None:
    (one, heard), (other, owner) = client(Http2Options(buffer_limit=100_000)), server(Http2Options())
    shuttle(one, other)
    other.take()
    stream = HeardClientStream(heard.events)
    one.send_request(stream, get(b"/", b"POST"), b"http", False)
    stream.send_window = 10
    one.send_payload(stream, b"x" * 100_000, False)
    assert heard.events == [("settings",)]
    one.send_payload(stream, b"x" * 100, False)
    assert heard.events[1:] == [("blocked", 1)]
    one.receive(frames.window_update(1, 40_000))
    assert heard.events[1:] == [("blocked", 1)]
    one.receive(frames.window_update(1, 20_000))
    assert heard.events[1:] == [("blocked", 1), ("unblocked", 1)]
    assert owner.events == [("settings",)]


def test_credit_is_held_back_while_a_stream_is_paused() -> None:
    options = Http2Options(initial_stream_window_size=65535, initial_connection_window_size=65535)
    (one, heard), (other, owner) = client(), server(options)
    stream = HeardClientStream(heard.events)
    one.send_request(stream, get(b"/", b"POST"), b"http", False)
    shuttle(one, other)
    theirs = owner.streams[0]
    other.pause(theirs)
    one.send_payload(stream, b"x" * 65535, True)
    other.receive(one.take())
    assert other.take() == b""
    other.resume(theirs)
    assert other.take() == frames.window_update(0, 65535)  # for the stream itself no more will come


def test_waiting_payload_goes_one_frame_a_stream_in_turn() -> None:
    (one, heard), (other, owner) = client(), server()
    shuttle(one, other)
    streams = [HeardClientStream(heard.events) for _ in range(2)]
    one.send_window = 0
    for stream in streams:
        one.send_request(stream, get(b"/", b"POST"), b"http", False)
        one.send_payload(stream, b"x" * 40_000, True)
    one.receive(frames.window_update(0, 1 << 20))
    other.receive(one.take())
    order = [event[1] for event in owner.events if event[0] == "payload"]
    assert order == [1, 3, 1, 3, 1, 3]


def test_settings_move_the_windows_of_open_streams_below_nothing() -> None:
    one, heard = client()
    one.receive(frames.settings(()))
    stream = HeardClientStream(heard.events)
    one.send_request(stream, get(b"/", b"POST"), b"http", False)
    one.send_payload(stream, b"x" * 1000, False)
    one.receive(frames.settings([(frames.INITIAL_WINDOW_SIZE, 500)]))
    assert stream.send_window == -500
    one.take()
    one.send_payload(stream, b"y" * 10, True)
    assert one.take() == b""
    one.receive(frames.window_update(1, 510))
    assert kinds(one.take()) == [frames.DATA]


def test_a_goaway_refuses_the_streams_above_it() -> None:
    one, heard = client()
    one.receive(frames.settings(()))
    for _ in range(3):
        one.send_request(HeardClientStream(heard.events), get(), b"http", True)
    one.receive(frames.goaway(3, errors.NO_ERROR))
    assert heard.events[1:] == [("refused", 5), ("goaway", 3, errors.NO_ERROR)]
    assert not one.may_open()
    assert sorted(one.streams) == [1, 3]


def test_a_drain_is_announced_before_it_refuses() -> None:
    (one, heard), (other, owner) = client(), server()
    shuttle(one, other)
    other.announce_drain()
    one.send_request(HeardClientStream(heard.events), get(b"/late"), b"http", True)
    shuttle(one, other)
    assert [event[3] for event in owner.events if event[0] == "request"] == [b"/late"]
    other.finish_drain()
    assert other.take() == frames.goaway(1, errors.NO_ERROR)


def test_a_stream_that_is_over_says_nothing_more() -> None:
    (one, heard), (other, owner) = client(), server()
    stream = HeardClientStream(heard.events)
    one.send_request(stream, get(), b"http", True)
    shuttle(one, other)
    theirs = owner.streams[0]
    other.reset(theirs, errors.CANCEL)
    for say in (
        lambda: other.send_head(theirs, [b":status: 200"], False),
        lambda: other.send_payload(theirs, b"x", True),
        lambda: other.send_trailers(theirs, [b"a: b"]),
        lambda: other.reset(theirs, errors.CANCEL),
        lambda: other.resume(theirs),
    ):
        say()
    assert kinds(other.take()) == [frames.RST_STREAM]


def test_credit_for_one_stream_does_not_look_at_the_others_that_wait() -> None:
    """A peer with many stalled streams could else buy much work with few bytes."""
    looked: list[int] = []

    class Watched(ServerConnection[HeardServerStream]):
        __slots__ = ()

        def _send_some(self, stream: HeardServerStream) -> bool:
            looked.append(stream.number)
            return ServerConnection._send_some(self, stream)

    (one, heard), owner = client(Http2Options(initial_stream_window_size=0)), Recorder()
    other: ServerConnection[HeardServerStream] = Watched(owner, Http2Options(), Http2Stats())
    for _ in range(50):
        one.send_request(HeardClientStream(heard.events), get(), b"http", True)
    shuttle(one, other)
    for stream in owner.streams:
        other.send_head(stream, (b":status: 200",), False)
        other.send_payload(stream, b"hello", True)
    shuttle(one, other)
    looked.clear()
    other.receive(frames.window_update(99, 5))
    assert looked == [99]
    other.receive(frames.window_update(0, 5))
    assert looked == [99]
    assert kinds(other.take()) == [frames.DATA]


def test_streams_share_what_credit_the_connection_gets() -> None:
    (one, heard), (other, owner) = client(), server()
    for _ in range(3):
        one.send_request(HeardClientStream(heard.events), get(), b"http", True)
    shuttle(one, other)
    other.send_window = 0
    for stream in owner.streams:
        other.send_head(stream, (b":status: 200",), False)
        other.send_payload(stream, b"x" * 20_000, True)
    shuttle(one, other)
    heard.events.clear()
    other.receive(frames.window_update(0, 40_000))
    one.receive(other.take())
    assert [(event[1], len(event[2])) for event in heard.events] == [(1, 16_384), (3, 16_384), (5, 7_232)]
    other.receive(frames.window_update(0, 20_000))
    one.receive(other.take())
    assert [(event[1], event[3]) for event in heard.events[3:]] == [(1, True), (3, True), (5, True)]


def test_credit_byte_by_byte_goes_in_turn_to_the_streams_that_have_credit_of_their_own() -> None:
    one, heard = client()
    one.receive(frames.settings(()))
    streams = [HeardClientStream(heard.events) for _ in range(3)]
    one.send_window = 0
    for stream in streams:
        one.send_request(stream, get(b"/", b"POST"), b"http", False)
        one.send_payload(stream, b"abc", True)
    streams[1].send_window = 0
    one.take()
    sent = []
    for _ in range(4):
        one.receive(frames.window_update(0, 1))
        sent.append(int.from_bytes(one.take()[5:9], "big"))
    assert sent == [1, 5, 1, 5]
    one.receive(frames.window_update(0, 10))
    assert [stream.local_done for stream in streams] == [True, False, True]
    one.receive(frames.window_update(3, 2))
    one.receive(frames.settings([(frames.INITIAL_WINDOW_SIZE, 65536)]))
    assert [stream.local_done for stream in streams] == [True, True, True]


def test_a_header_block_of_too_many_pieces_ends_the_connection() -> None:
    codec, owner = greeted(Http2Options())
    codec.receive(frames.header(3, frames.HEADERS, 0, 1) + b"\x82\x86\x84" + _piece(b"\x90") * 512)
    assert codec.error is None
    codec.receive(_piece(b"\x90"))
    assert owner.events == [("broke", errors.PROTOCOL_ERROR, "CONTINUATION: too many")]


def test_a_head_in_pieces_is_a_request_and_leaves_the_next_one_sound() -> None:
    codec, owner = greeted(Http2Options())
    wire = frames.header(3, frames.HEADERS, frames.END_STREAM, 1) + b"\x82\x86\x84" + _piece(b"\x41\x01")
    wire += frames.header(1, frames.CONTINUATION, frames.END_HEADERS, 1) + b"a"
    codec.receive(
        wire + frames.header(4, frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 3) + b"\x82\x86\x84\xbe"
    )
    assert [event[:5] for event in owner.events] == [
        ("request", 1, b"GET", b"/", b"a"),
        ("request", 3, b"GET", b"/", b"a"),
    ]


def _piece(payload: bytes) -> bytes:
    return frames.header(len(payload), frames.CONTINUATION, 0, 1) + payload
