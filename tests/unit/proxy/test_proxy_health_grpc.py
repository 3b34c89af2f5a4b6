"""Checks over HTTP/2: which answers of gRPC's health service are well, and what becomes of their connection."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived

from mesh.proxy.http1.head import Head, RequestHead, ResponseHead
from mesh.proxy.http2.options import Http2Options
from mesh.proxy.http2.stats import Http2Stats
from mesh.proxy.upstream.health.grpc import HealthCheckResponse, is_serving
from mesh.proxy.upstream.health.http2 import Answer, Http2Connection

SERVING = b"\0\0\0\0\2\x08\1"
EMPTY = b"\0\0\0\0\0"
OK = [b"grpc-status: 0"]


def head(status: int = 200, *lines: bytes) -> ResponseHead:
    return ResponseHead(status, b"", False, list(lines or (b"content-type: application/grpc+proto",)), {})


def trailers(lines: list[bytes]) -> Head:
    return ResponseHead(200, b"", False, lines, {})


@pytest.mark.parametrize(
    ("answer", "is_well"),
    [
        (Answer(head(), SERVING, trailers(OK)), True),
        (Answer(head(), EMPTY + SERVING, trailers(OK)), True),
        (Answer(head(), SERVING + EMPTY, trailers(OK)), True),
        (Answer(head(), SERVING + SERVING, trailers(OK)), False),
        (Answer(head(), SERVING[:-1], trailers(OK)), False),
        (Answer(head(), SERVING[:3], trailers(OK)), False),
        (Answer(head(), b"\1" + SERVING[1:], trailers(OK)), False),
        (Answer(head(), b"\0\0\0\0\2\x08\2", trailers(OK)), False),
        (Answer(head(), b"\0\0\0\0\2\xff\xff", trailers(OK)), False),
        (Answer(head(), EMPTY, trailers(OK)), False),
        (Answer(head(), b"", trailers(OK)), False),
        (Answer(head(), SERVING, trailers([b"grpc-status: 14"])), False),
        (Answer(head(), SERVING, trailers([b"x-a: b"])), False),
        (Answer(head(), SERVING, None), False),
        (Answer(head(503), SERVING, trailers(OK)), False),
        (Answer(head(200, b"content-type: text/plain"), SERVING, trailers(OK)), False),
    ],
)
def test_only_one_message_that_says_serving_and_ok_is_well(answer: Answer, is_well: bool) -> None:
    assert is_serving(answer) is is_well


def test_the_messages_are_those_of_grpcs_health_service() -> None:
    assert HealthCheckResponse.FromString(SERVING[5:]).value == 1


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 10))

    return run


class Wire(asyncio.Transport):
    """Both ends: what the check writes is read by a server of another library, whose `answer` is read by the check."""

    def __init__(self, answer: Callable[[H2Connection, int], Any], *, decides: bool = False) -> None:
        super().__init__()
        self.is_aborted = False
        self._answer = answer
        self._server = H2Connection(H2Configuration(client_side=False))
        self._server.initiate_connection()
        self.stats = Http2Stats()
        self.connection = Http2Connection(Http2Options(), self.stats, b"http", lambda head: decides)
        self.connection.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        for event in self._server.receive_data(bytes(data)):
            if isinstance(event, RequestReceived):
                self._answer(self._server, event.stream_id)
        if wire := self._server.data_to_send():
            asyncio.get_running_loop().call_soon(self.connection.data_received, wire)

    def say(self, what: Callable[[H2Connection], None]) -> None:
        what(self._server)
        self.connection.data_received(self._server.data_to_send())

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        if not self.is_aborted:
            self.is_aborted = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)


def well(server: H2Connection, stream: int) -> None:
    server.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
    server.send_data(stream, SERVING)
    server.send_headers(stream, [("grpc-status", "0")], end_stream=True)


async def asked(wire: Wire) -> Answer:
    return await wire.connection.ask(RequestHead(b"POST", b"/", b"a", [], {}), EMPTY)


@in_loop
async def test_a_connection_is_asked_again_and_again() -> None:
    wire = Wire(well)
    assert [is_serving(await asked(wire)) for _ in range(3)] == [True, True, True]
    assert wire.connection.is_open
    assert wire.stats.streams_active == 0


@in_loop
async def test_a_goodbye_during_a_check_lets_it_end_and_no_other_begin() -> None:
    def leave(server: H2Connection, stream: int) -> None:
        server.close_connection(ErrorCodes.NO_ERROR, last_stream_id=stream)
        server.state_machine.state = type(server.state_machine.state).CLIENT_OPEN
        well(server, stream)

    wire = Wire(leave)
    assert is_serving(await asked(wire))
    assert not wire.connection.is_open


@in_loop
async def test_a_goodbye_with_an_error_fails_the_check() -> None:
    def leave(server: H2Connection, stream: int) -> None:
        server.close_connection(ErrorCodes.ENHANCE_YOUR_CALM, last_stream_id=stream)

    wire = Wire(leave)
    with pytest.raises(ConnectionError, match="GOAWAY"):
        await asked(wire)
    assert wire.is_aborted


@in_loop
async def test_a_goodbye_between_checks_closes_and_is_no_failure() -> None:
    wire = Wire(well)
    await asked(wire)
    wire.say(lambda server: server.close_connection(ErrorCodes.NO_ERROR))
    assert wire.is_aborted
    assert not wire.connection.is_open


@in_loop
async def test_a_head_that_decides_is_not_waited_on() -> None:
    wire = Wire(lambda server, stream: server.send_headers(stream, [(":status", "503")]), decides=True)
    answer = await asked(wire)
    assert (answer.head.status, answer.trailers) == (503, None)
    assert wire.stats.tx_reset == 1
    assert wire.connection.is_open


@in_loop
async def test_a_stream_that_is_reset_is_a_failure_and_leaves_the_connection() -> None:
    wire = Wire(lambda server, stream: server.reset_stream(stream, ErrorCodes.INTERNAL_ERROR))
    with pytest.raises(ConnectionError, match="reset"):
        await asked(wire)
    assert wire.connection.is_open


@in_loop
async def test_a_peer_that_speaks_something_else_breaks_the_connection() -> None:
    wire = Wire(lambda server, stream: None)
    task = asyncio.create_task(asked(wire))
    await asyncio.sleep(0)
    wire.connection.data_received(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ConnectionError):
        await task
    assert not wire.connection.is_open
    assert wire.stats.streams_active == 0
