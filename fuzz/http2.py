"""The HTTP/2 codec under fuzz, with an answerer behind it so that what goes out is tried as well."""

from __future__ import annotations

from mesh.proxy.http1.head import Head, RequestHead
from mesh.proxy.http2.connection import Connection
from mesh.proxy.http2.decoder import Decoder
from mesh.proxy.http2.encoder import Encoder
from mesh.proxy.http2.errors import HpackBroke
from mesh.proxy.http2.fields import MALFORMED, request_field
from mesh.proxy.http2.frames import PREFACE
from mesh.proxy.http2.options import Http2Options
from mesh.proxy.http2.server import ServerConnection
from mesh.proxy.http2.stats import Http2Stats
from tests.http2_peers import Event, HeardClientStream, HeardServerStream, Recorder, client, get

_OPTIONS = Http2Options(
    max_concurrent_streams=5,
    initial_stream_window_size=65535,
    initial_connection_window_size=65535,
    max_head=2000,
    buffer_limit=50_000,
    stream_error_on_invalid_message=True,
)
_ANSWER = b"0123456789" * 9000
_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_LONGEST_PAYLOAD = 200


class _Answerer(HeardServerStream):
    """Answers each request, some of them with more than the windows hold, some before the request is complete."""

    codec: ServerConnection[HeardServerStream]

    def head_received(self, head: RequestHead, done: bool) -> None:
        super().head_received(head, done)
        if head.target == b"/":
            self._answer()
        elif not done:
            self.codec.pause(self)
            self.codec.resume(self)

    def payload_received(self, payload: bytes, done: bool) -> None:
        super().payload_received(payload, done)
        if done:
            self._answer()

    def trailers_received(self, trailers: Head) -> None:
        super().trailers_received(trailers)
        self._answer()

    def _answer(self) -> None:
        self.codec.send_head(self, [b":status: 200", b"x-a: b"], False)
        self.codec.send_payload(self, _ANSWER, False)
        self.codec.send_trailers(self, [b"x-t: 1"])


class _Owner(Recorder):
    codec: ServerConnection[HeardServerStream]

    def new_stream(self) -> HeardServerStream:
        stream = _Answerer(self.events)
        stream.codec = self.codec
        self.streams.append(stream)
        return stream


def check_http2(data: bytes) -> None:
    """The first byte says role and form, the second how the bytes are cut.

    Odd form: bytes as they are. Even form: frames, each of type, flags, stream and length in a byte, and its payload.
    """
    if len(data) < 2:
        return
    wire = data[2:] if data[0] & 1 else _frames(data[2:])
    play = _play_client if data[0] & 2 else _play_server
    step = data[1] % 50 + 1
    whole = play([wire])
    cut = play([wire[at : at + step] for at in range(0, len(wire), step)])
    assert whole == cut, f"uncut {whole[0]}, in pieces of {step} {cut[0]}"


def _frames(data: bytes) -> bytes:
    wire = []
    at = 0
    while at + 4 <= len(data):
        kind, flags, number, size = data[at : at + 4]
        payload = data[at + 4 : at + 4 + min(size, _LONGEST_PAYLOAD)]
        at += 4 + len(payload)
        wire.append(len(payload).to_bytes(3, "big") + bytes((kind % 11, flags)) + (number % 16).to_bytes(4, "big"))
        wire.append(payload)
    return b"".join(wire)


def _play_server(pieces: list[bytes]) -> tuple[list[Event], int]:
    owner = _Owner()
    owner.codec = ServerConnection(owner, _OPTIONS, Http2Stats())
    return _feed(owner.codec, owner, [PREFACE + _SETTINGS, *pieces])


def _play_client(pieces: list[bytes]) -> tuple[list[Event], int]:
    codec, owner = client(_OPTIONS)
    codec.receive(_SETTINGS)
    for method in (b"GET", b"HEAD", b"POST"):
        stream = HeardClientStream(owner.events)
        codec.send_request(stream, get(b"/", method), b"http", method != b"POST")
        codec.send_payload(stream, _ANSWER, True)
    return _feed(codec, owner, pieces)


def _feed(codec: Connection, owner: Recorder, pieces: list[bytes]) -> tuple[list[Event], int]:  # type: ignore[type-arg]
    size = 0
    for piece in pieces:
        codec.receive(piece)
        size += len(codec.take())
        _check_state(codec)
    return owner.events, size + len(codec.take())


def _check_state(codec: Connection) -> None:  # type: ignore[type-arg]
    held = 0
    for number, stream in codec.streams.items():
        assert stream.number == number
        assert not stream.is_closed
        assert not (stream.local_done and stream.remote_done)
        assert stream.waiting_size == sum(map(len, stream.waiting or ()))
        is_in_line = number in codec._waiting
        assert is_in_line <= (stream.waiting is not None)
        assert is_in_line or stream.waiting is None or stream.send_window <= 0
        assert stream.waiting is None or stream.waiting or stream.end_waits
        held += stream.held
    assert codec._waiting.keys() <= codec.streams.keys()
    assert codec._returnable >= 0
    assert codec.error is not None or codec._returnable + held == codec._unacknowledged
    assert len(codec._buffer) < 16384 + 9


def check_hpack(data: bytes) -> None:
    """A block is refused with HpackBroke, or its fields come out the same through our own encoder."""
    decoder = Decoder(request_field)
    try:
        fields = [each for each in decoder.decode(data) if each.kind != MALFORMED and each.value == each.value.strip()]
    except HpackBroke:
        return
    encoder, other = Encoder(), Decoder(request_field)
    for _ in range(3):
        read = [(each.name, each.value) for each in other.decode(encoder.encode([each.line for each in fields]))]
        assert read == [(each.name, each.value) for each in fields]
    assert decoder._size == sum(each.size for each in decoder._table) <= decoder._room


def _seed(*frames: tuple[int, int, int, bytes], form: int = 0, step: int = 7) -> bytes:
    return bytes((form, step)) + b"".join(
        bytes((kind, flags, number, len(payload))) + payload for kind, flags, number, payload in frames
    )


_REQUEST = b"\x82\x86\x84\x41\x01a"
_POST = b"\x83\x86\x44\x02/a\x41\x01a"
HTTP2_SEEDS = [
    _seed((1, 5, 1, _REQUEST), (1, 5, 3, _REQUEST)),
    _seed((1, 4, 1, _POST), (0, 0, 1, b"body"), (0, 1, 1, b"end")),
    _seed((1, 4, 1, _POST), (0, 8, 1, b"\x02body\0\0"), (1, 5, 1, b"\x00\x01t\x01v")),
    _seed((1, 4, 1, _POST + b"\x0f\x0d\x013"), (0, 1, 1, b"abc")),
    _seed((1, 0, 1, _POST[:4]), (9, 4, 1, _POST[4:]), (3, 0, 1, b"\0\0\0\x08")),
    _seed((1, 5, 1, _REQUEST), (8, 0, 0, b"\0\x01\0\0"), (8, 0, 1, b"\0\x01\0\0"), (4, 0, 0, b"\0\x04\0\0\x10\0")),
    _seed((6, 0, 0, b"12345678"), (2, 0, 3, b"\0\0\0\x01\x10"), (7, 0, 0, b"\0" * 8), (4, 1, 0, b"")),
    _seed((1, 4, 1, b"\x88"), (0, 1, 1, b"answer"), (1, 5, 3, b"\x88"), (1, 5, 5, b"\x8d"), form=2),
    _seed((1, 4, 1, b"\x08\x03100"), (1, 4, 1, b"\x88"), (1, 5, 1, b"\0\x01t\x01v"), (3, 0, 5, b"\0\0\0\7"), form=2),
]  # fmt: skip
HTTP2_TOKENS = (
    _REQUEST, _POST, b"\x88", b"\0\x01t\x01v", b"\x01\x05", b"\x01\x04", b"\x00\x01", b"\x03\x00", b"\x08\x00",
    b"\0\x04\0\0\0\0", b"\0\x04\x7f\xff\xff\xff", b"\0\x05\0\0\x40\0", b"\x7f\xff\xff\xff", b"\0\0\0\x01", b"\xff",
)  # fmt: skip
