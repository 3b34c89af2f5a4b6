"""gRPC's deadlines and messages, as they stand in headers."""

from __future__ import annotations

import pytest

from mesh.proxy.http.grpc import http_status, is_grpc, local_head, read_timeout, write_timeout
from mesh.proxy.http1.head import Head


def with_timeout(value: bytes) -> Head:
    return Head([b"grpc-timeout: %b" % value], {})


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600.0), (b"2M", 120.0), (b"3S", 3.0), (b"4m", 0.004), (b"5000u", 0.005), (b"1n", 0.001),
        (b"1000001n", 0.002), (b"0S", 0.0), (b"99999999H", 359999996400.0),
    ],
)  # fmt: skip
def test_a_deadline_is_read_in_whole_milliseconds(value: bytes, seconds: float) -> None:
    assert read_timeout(with_timeout(value)) == seconds


@pytest.mark.parametrize("value", [b"", b"S", b"1", b"1x", b"-1S", b"1.5S", b"123456789S", b"1 S"])
def test_what_is_no_deadline(value: bytes) -> None:
    assert read_timeout(with_timeout(value)) is None


def test_no_deadline() -> None:
    assert read_timeout(Head([], {})) is None


@pytest.mark.parametrize(
    ("seconds", "value"),
    [(0.0, b"0m"), (0.2, b"200m"), (99999.999, b"99999999m"), (100000.0, b"100000S"), (359999996400.0, b"99999999H")],
)
def test_a_deadline_is_written_with_at_most_eight_digits(seconds: float, value: bytes) -> None:
    head = with_timeout(b"1S")
    write_timeout(head, seconds)
    assert head.get(b"grpc-timeout") == value


@pytest.mark.parametrize(
    ("kind", "is_call"),
    [(b"application/grpc", True), (b"application/grpc+json", True), (b"application/grpc-web", False), (b"x", False)],
)
def test_a_call_is_known_by_its_content_type(kind: bytes, is_call: bool) -> None:
    assert is_grpc(Head([], {b"content-type": kind})) is is_call


def test_a_message_is_escaped() -> None:
    head = local_head(13, b"50%\n\xc3\xa9 ok~", b"", b"D")
    assert head.get(b"grpc-message") == b"50%25%0A%C3%A9 ok~"


def test_a_status_that_nobody_knows_counts_as_a_failure() -> None:
    assert [http_status(said) for said in (b"0", b"14", b"99", b"x", b"")] == [200, 503, 500, 500, 500]
