"""Frame types, flags and settings by number, and the bytes of the small frames (RFC 9113 sections 4 and 6)."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
ENABLE_CONNECT_PROTOCOL = 0x8  # RFC 8441

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE = 9
# Length (in two parts), type, flags, stream.
read_header = Struct(">HBBBI").unpack_from
read_setting = Struct(">HI").iter_unpack
read_goaway = Struct(">II").unpack_from

SETTINGS_ACK = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"
_PING_ACK = b"\x00\x00\x08\x06\x01\x00\x00\x00\x00%b"
_PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00%b"
_reset = Struct(">HBBBII").pack
_setting = Struct(">HI").pack
_goaway = Struct(">II").pack


def header(length: int, kind: int, flags: int, number: int) -> bytes:
    """The nine bytes before a frame's payload."""
    return (length << 48 | kind << 40 | flags << 32 | number).to_bytes(9, "big")


def reset(number: int, code: int) -> bytes:
    return _reset(0, 4, RST_STREAM, 0, number, code)


def window_update(number: int, credit: int) -> bytes:
    return _reset(0, 4, WINDOW_UPDATE, 0, number, credit)


def ping(opaque: bytes) -> bytes:
    return _PING % opaque


def ping_ack(opaque: bytes) -> bytes:
    return _PING_ACK % opaque


def goaway(last: int, code: int, debug: bytes = b"") -> bytes:
    return header(8 + len(debug), GOAWAY, 0, 0) + _goaway(last, code) + debug


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    payload = b"".join(_setting(*value) for value in values)
    return header(len(payload), SETTINGS, 0, 0) + payload
