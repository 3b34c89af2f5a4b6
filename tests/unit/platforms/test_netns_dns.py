"""The lab's DNS, from bytes to bytes. Messages are taken apart by hand, by RFC 1035."""

import random
import struct

import pytest

from mesh.platforms.netns.dns import SERVER_FAILURE, SILENCE, TTL_S, answer, look_up

TABLE = {
    "reviews.default.svc.cluster.local": ["10.96.0.7"],
    "pods.default.svc.cluster.local": [f"10.244.1.{n}" for n in range(1, 101)],
    "*.wild.example": ["240.240.0.1"],
    "one.wild.example": ["240.240.0.2"],
}
NO_ERROR, FORMAT_ERROR, NO_NAME, NOT_IMPLEMENTED, REFUSED = 0, 1, 3, 4, 5
A, AAAA = 1, 28


def query(name: str, kind: int = A, *, class_: int = 1, flags: int = 0x0100, count: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    return struct.pack("!6H", 0xBEEF, flags, count, 0, 0, 0) + labels + struct.pack("!HH", kind, class_)


def read(reply: bytes | None, asked: bytes) -> tuple[int, bool, list[str]]:
    """Code, whether it was cut, and the addresses; everything else must be as it has to be."""
    assert reply is not None
    ident, flags, questions, answers, *rest = struct.unpack_from("!6H", reply)
    assert ident == 0xBEEF
    assert flags & 0x8000
    assert flags & 0x0100  # recursion was desired
    assert rest == [0, 0]
    at = 12
    if questions:
        question = asked[12:]
        assert reply[12 : 12 + len(question)] == question
        at += len(question)
    found = []
    for _ in range(answers):
        pointer, kind, class_, ttl, size, packed = struct.unpack_from("!HHHIH4s", reply, at)
        assert (pointer, kind, class_, ttl, size) == (0xC00C, A, 1, TTL_S, 4)
        found.append(".".join(str(octet) for octet in packed))
        at += 16
    assert at == len(reply)
    return flags & 0xF, bool(flags & 0x0200), found


def asked(name: str, kind: int = A, limit: int = 512) -> tuple[int, bool, list[str]]:
    message = query(name, kind)
    return read(answer(message, TABLE, limit), message)


def test_a_name_of_the_table_has_its_addresses_in_whatever_case_it_is_asked_for() -> None:
    assert asked("Reviews.default.SVC.cluster.local") == (NO_ERROR, False, ["10.96.0.7"])


def test_there_is_no_ipv6_and_that_is_not_an_error() -> None:
    assert asked("reviews.default.svc.cluster.local", AAAA) == (NO_ERROR, False, [])


@pytest.mark.parametrize("kind", [A, AAAA])
def test_what_the_table_does_not_have_does_not_exist(kind: int) -> None:
    assert asked("reviews", kind) == (NO_NAME, False, [])


def test_a_wildcard_stands_for_names_below_it_that_have_no_entry() -> None:
    assert look_up("one.wild.example", TABLE) == ["240.240.0.2"]
    assert look_up("two.wild.example", TABLE) == ["240.240.0.1"]
    assert look_up("a.b.wild.example", TABLE) == ["240.240.0.1"]
    assert look_up("wild.example", TABLE) is None


def test_what_does_not_fit_a_datagram_is_cut_and_comes_whole_over_tcp() -> None:
    code, cut, found = asked("pods.default.svc.cluster.local")
    assert (code, cut) == (NO_ERROR, True)
    assert 0 < len(found) < 100
    assert asked("pods.default.svc.cluster.local", limit=65535) == (
        NO_ERROR,
        False,
        TABLE["pods.default.svc.cluster.local"],
    )


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (query("a.b", flags=0x0100 | 0x2000), NOT_IMPLEMENTED),  # a status request
        (query("a.b", class_=3), REFUSED),  # CHAOS
        (query("a.b", count=0), FORMAT_ERROR),
        (query("a.b", count=2), FORMAT_ERROR),
        (query("a.b")[:-1], FORMAT_ERROR),
        (query("a.b")[:14], FORMAT_ERROR),
        (query("x")[:12] + b"\xc0\x0c" + struct.pack("!HH", A, 1), FORMAT_ERROR),  # a name that points to itself
        (query(".".join(["a" * 63] * 5)), FORMAT_ERROR),
    ],
)
def test_what_cannot_be_answered_is_told_so(message: bytes, code: int) -> None:
    assert read(answer(message, TABLE, 512), message)[0] == code


@pytest.mark.parametrize("message", [b"", b"\0" * 11, query("a.b", flags=0x8000)])
def test_nothing_is_said_to_a_reply_or_to_less_than_a_header(message: bytes) -> None:
    assert answer(message, TABLE, 512) is None


def test_no_bytes_whatever_raise_or_get_more_than_the_limit() -> None:
    rng = random.Random(1)
    whole = query("reviews.default.svc.cluster.local")
    for _ in range(5000):
        message = bytearray(whole[: rng.randrange(len(whole) + 1)])
        for _ in range(rng.randrange(4)):
            if message:
                message[rng.randrange(len(message))] = rng.randrange(256)
        reply = answer(bytes(message), TABLE, 512)
        assert reply is None or len(reply) <= 512


def test_a_fault_decides_by_the_name_before_the_table_does() -> None:
    asked: list[str] = []

    def spoiled(name: str) -> int | None:
        asked.append(name)
        return {"reviews.default.svc.cluster.local": SERVER_FAILURE, "slow.example": SILENCE}.get(name)

    question = query("Reviews.default.svc.cluster.local")
    assert read(answer(question, TABLE, 512, spoiled), question) == (SERVER_FAILURE, False, [])
    assert answer(query("slow.example"), TABLE, 512, spoiled) == b""
    other = query("one.wild.example")
    assert read(answer(other, TABLE, 512, spoiled), other) == (NO_ERROR, False, ["240.240.0.2"])
    assert asked == ["reviews.default.svc.cluster.local", "slow.example", "one.wild.example"]
