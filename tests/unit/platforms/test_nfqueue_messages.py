"""nfnetlink_queue's messages, held against bytes that were written down from the kernel's headers."""

import struct
import sys

import pytest

from mesh.platforms.netns.faults.nfqueue import Answered, Queued, accept_up_to, bind, drop, parse, unbind

HEX = bytes.fromhex  # which leaves spaces out
little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="the bytes are of a little-endian machine")


@little_endian
def test_requests_are_what_the_kernel_wants() -> None:
    command, parameters, limit = bind(5, 4096, 1)
    assert command == HEX("1c000000 0203 0500 01000000 00000000  0000 0005  0800 0100 01 00 0000")
    assert parameters == HEX("20000000 0203 0500 02000000 00000000 0000 0005 0900 0200 00000014 02 000000")
    assert limit == HEX("1c000000 0203 0500 03000000 00000000 0000 0005 0800 0300 00001000")
    assert unbind(5) == HEX("1c000000 0203 0100 00000000 00000000 0000 0005 0800 0100 02 00 0000")


@little_endian
def test_verdicts_are_what_the_kernel_wants() -> None:
    assert drop(5, 9) == HEX("20000000 0103 0100 00000000 00000000 0000 0005 0c00 0200 00000000 00000009")
    assert accept_up_to(5, 9) == HEX("20000000 0303 0100 00000000 00000000 0000 0005 0c00 0200 00000001 00000009")


def attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + value + padding


def message(kind: int, body: bytes, sequence: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, sequence, 0) + body + bytes(-len(body) % 4)


def packet(queue: int, ident: int, size: int, *, before: bytes = b"", copied: int = 20) -> bytes:
    payload = (struct.pack("!BBH", 0x45, 0, size) + bytes(16))[:copied]
    header = attribute(1, struct.pack("!IHB", ident, 0x0800, 2))
    return message(3 << 8, struct.pack("!BBH", 2, 0, queue) + header + before + attribute(10, payload))


def test_packets_are_read_by_queue_number_and_size_whatever_else_is_said_of_them() -> None:
    mark, device = attribute(3, struct.pack("!I", 1337)), attribute(5, b"\0\0\0\7")
    data = packet(5, 1, 52) + packet(6, 2, 1500, before=mark + device) + packet(5, 0xFFFFFFFF, 40)
    assert list(parse(data)) == [Queued(5, 1, 52), Queued(6, 2, 1500), Queued(5, 0xFFFFFFFF, 40)]


def test_a_packet_shorter_than_its_header_has_no_size() -> None:
    assert list(parse(packet(5, 1, 52, copied=3))) == [Queued(5, 1, 0)]


def test_answers_are_read_by_the_request_they_are_to() -> None:
    refusal = message(2, struct.pack("=i", -1) + bytes(16), sequence=8)
    assert list(parse(message(2, struct.pack("=i", 0) + bytes(16), sequence=7) + refusal)) == [
        Answered(7, 0),
        Answered(8, 1),
    ]


def test_other_messages_are_left_out() -> None:
    assert list(parse(message(3, b"") + packet(1, 1, 20))) == [Queued(1, 1, 20)]


@pytest.mark.parametrize(
    "data",
    [
        packet(1, 1, 20)[:-30],
        struct.pack("=IHHII", 3, 0, 0, 0, 0),
        message(3 << 8, struct.pack("!BBH", 2, 0, 1)),
        message(3 << 8, struct.pack("!BBH", 2, 0, 1) + struct.pack("=HH", 90, 1)),
        message(3 << 8, struct.pack("!BBH", 2, 0, 1) + struct.pack("=HH", 0, 1)),
    ],
)
def test_what_is_cut_off_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"bytes|header"):
        list(parse(data))
