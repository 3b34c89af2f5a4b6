"""HTTP/2 clients of the sidecar: its connections' lives, and back-pressure between the two sides."""

from __future__ import annotations

from typing import Any

import pytest
from proxy_stage import Stage, Wire, play

from mesh.proxy.downstream.http2 import Http2Downstream
from mesh.proxy.http2 import errors, frames
from mesh.proxy.http2.client import ClientConnection
from mesh.proxy.http2.options import Http2Options
from tests.http2_peers import Event, HeardClientStream, client, get

_ALL = "{match: {prefix: /}, route: {cluster: app}}"


class Caller:
    """An HTTP/2 client on the wire of a stage."""

    def __init__(self, stage: Stage, options: Http2Options | None = None) -> None:
        connection = Http2Downstream(stage.worker, stage.config, None, lambda lost: None)
        self.connection = connection
        self.wire: Any = Wire(connection)
        connection.connection_made(self.wire)
        self.codec: ClientConnection[HeardClientStream]
        self.codec, self._heard = client(options or Http2Options())
        self.events = self._heard.events

    def ask(self, target: bytes = b"/", body: bytes | None = None, *, done: bool = True) -> HeardClientStream:
        stream = HeardClientStream(self._heard.events)
        self.codec.send_request(stream, get(target, b"POST" if body else b"GET"), b"http", done and body is None)
        if body is not None:
            self.codec.send_payload(stream, body, done)
        self.say()
        return stream

    def say(self) -> None:
        self.wire.comes(self.codec.take())

    def hears(self) -> list[Event]:
        """What came since the last call, answered where the protocol wants it."""
        self._heard.events.clear()
        written, self.wire.written = self.wire.written, b""
        self.codec.receive(written)
        answer = self.codec.take()
        if answer and not self.wire.is_closed:
            self.wire.comes(answer)
        return [event for event in self._heard.events if event[0] != "settings"]


def statuses(events: list[Event]) -> list[tuple[int, int]]:
    return [(event[1], event[2]) for event in events if event[0] == "response"]


def test_requests_of_one_turn_are_answered_in_one_write() -> None:
    async def scene() -> None:
        stage = Stage("{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: hi}}}")
        caller = Caller(stage)
        for _ in range(3):
            caller.codec.send_request(HeardClientStream([]), get(), b"http", True)
        writes = []
        write, caller.wire.write = caller.wire.write, lambda data: (writes.append(data), write(data))
        caller.say()
        await stage.settle()
        assert len(writes) == 1
        assert statuses(caller.hears()) == []  # these streams hear for themselves
        assert not caller.codec.streams

    play(scene)


def test_a_process_that_ends_serves_the_streams_it_has() -> None:
    async def scene() -> None:
        stage = Stage(_ALL)
        caller = Caller(stage)
        caller.ask()
        upstream = await stage.upstream()
        caller.connection.drain(0)
        assert caller.hears() == [("goaway", 1, errors.NO_ERROR)]
        upstream.comes(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await stage.settle()
        assert statuses(caller.hears()) == [(1, 200)]
        assert caller.wire.is_closed

    play(scene)


def test_a_listener_that_goes_serves_what_comes_for_a_while() -> None:
    async def scene() -> None:
        stage = Stage("{match: {prefix: /}, direct_response: {status: 200}}", hcm="drain_timeout: 0.05s")
        caller = Caller(stage)
        caller.ask()
        caller.hears()
        caller.connection.drain(45)
        await stage.settle()
        assert caller.hears() == [("goaway", 2**31 - 1, errors.NO_ERROR)]
        caller.codec.is_going_away = False  # a request that was under way already
        caller.ask()
        await stage.settle()
        assert statuses(caller.hears()) == [(3, 200)]
        await stage.until(lambda: caller.wire.is_closed)
        assert caller.hears() == [("goaway", 3, errors.NO_ERROR)]
        assert stage.counter("http2.goaway_sent") == 1

    play(scene)


def test_one_slow_reader_holds_up_its_own_upstream_alone() -> None:
    async def scene() -> None:
        stage = Stage("{match: {path: /b}, route: {cluster: b}}, " + _ALL, {"app": "port: 80", "b": "port: 81"})
        stage.config.http2 = Http2Options(buffer_limit=1000)
        caller = Caller(stage, Http2Options(initial_stream_window_size=65535, initial_connection_window_size=1 << 24))
        slow = caller.ask(b"/a")
        caller.ask(b"/b")
        upstream, other = await stage.upstream(0), await stage.upstream(1)
        caller.hears()
        caller.codec.pause(slow)
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n"
        upstream.comes(head + b"x" * 100_000)
        other.comes(head + b"x" * 60_000)
        await stage.settle()
        assert upstream.is_paused
        assert not other.is_paused
        caller.hears()
        caller.codec.resume(slow)
        caller.say()
        assert not upstream.is_paused

    play(scene)


def test_a_transport_that_takes_no_more_stops_every_upstream() -> None:
    async def scene() -> None:
        stage = Stage(_ALL)
        caller = Caller(stage)
        caller.ask()
        caller.ask()
        first, second = await stage.upstream(0), await stage.upstream(1)
        for each in (first, second):
            each.comes(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
        caller.connection.pause_writing()
        assert first.is_paused
        assert second.is_paused
        caller.connection.resume_writing()
        assert not first.is_paused
        assert not second.is_paused

    play(scene)


def test_resets_one_after_the_other_end_the_connection() -> None:
    async def scene() -> None:
        stage = Stage(_ALL)
        caller = Caller(stage)
        for _ in range(251):
            if caller.wire.is_half_closed:
                break
            caller.codec.reset(caller.ask(), errors.CANCEL)
            caller.say()
            await stage.settle()
        assert caller.wire.is_half_closed
        assert stage.counter("http.t.downstream_rq_too_many_premature_resets") == 1
        assert stage.counter("http.t.downstream_rq_total") == 250

    play(scene)


def in_two(wire: bytes, *, in_block: bool) -> tuple[bytes, bytes]:
    """What is said, its last frame (HEADERS) broken in the middle, or its header block parted into two frames."""
    at = len(frames.PREFACE)
    while at + 9 + (size := int.from_bytes(wire[at : at + 3], "big")) < len(wire):
        at += 9 + size
    if not in_block:
        return wire[: at + 12], wire[at + 12 :]
    begin = frames.header(3, frames.HEADERS, frames.END_STREAM, 1) + wire[at + 9 : at + 12]
    return wire[:at] + begin, frames.header(size - 3, frames.CONTINUATION, frames.END_HEADERS, 1) + wire[at + 12 :]


@pytest.mark.parametrize("in_block", [False, True])
@pytest.mark.parametrize(
    ("limit", "counter"),
    [
        ("request_headers_timeout", "downstream_rq_header_timeout"),
        ("request_timeout", "downstream_rq_timeout"),
        ("stream_idle_timeout", "downstream_rq_idle_timeout"),
    ],
)
def test_a_head_that_does_not_end_is_given_up_and_its_connection_serves_on(
    limit: str, counter: str, in_block: bool
) -> None:
    async def scene() -> None:
        stage = Stage(_ALL, hcm=f"{limit}: 0.05s")
        caller = Caller(stage)
        caller.codec.send_request(HeardClientStream(caller.events), get(), b"http", True)
        begun, rest = in_two(caller.codec.take(), in_block=in_block)
        caller.wire.comes(begun)
        await stage.until(lambda: stage.counter(f"http.t.{counter}"))
        await stage.settle()
        caller.wire.comes(rest)  # too late for its stream, but the tables of HPACK take note
        assert statuses(caller.hears()) == [(1, 408)]
        caller.ask()
        upstream = await stage.upstream()
        upstream.comes(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await stage.settle()
        assert statuses(caller.hears()) == [(3, 200)]
        assert stage.counter("http.t.downstream_rq_total") == 2

    play(scene)


def test_who_answers_no_pings_is_let_go() -> None:
    async def scene() -> None:
        stage = Stage(
            "{match: {prefix: /}, direct_response: {status: 200}}",
            hcm="http2_protocol_options: {connection_keepalive: {interval: 0.01s, timeout: 0.03s}}",
        )
        caller = Caller(stage)
        caller.ask()
        await stage.until(lambda: caller.wire.is_closed)
        assert stage.counter("http2.keepalive_timeout") == 1

    play(scene)


def test_a_response_that_nobody_takes_is_reset_in_the_end() -> None:
    async def scene() -> None:
        stage = Stage(_ALL, hcm="stream_idle_timeout: 0.05s")
        caller = Caller(stage, Http2Options(initial_stream_window_size=65535, initial_connection_window_size=1 << 24))
        slow = caller.ask()
        upstream = await stage.upstream()
        caller.hears()
        caller.codec.pause(slow)
        upstream.comes(b"HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n" + b"x" * 70_000)
        assert stage.counter("http.t.downstream_rq_active") == 0
        assert stage.counter("http2.streams_active") == 1
        await stage.until(lambda: stage.counter("http2.tx_flush_timeout"))
        await stage.settle()
        assert caller.hears()[-1] == ("reset", 1, errors.NO_ERROR)
        assert stage.counter("http2.streams_active") == 0

    play(scene)


def test_a_preface_in_two_pieces_is_http2_and_counted_once() -> None:
    async def scene() -> None:
        stage = Stage("{match: {prefix: /}, direct_response: {status: 200}}")
        wire = stage.client()
        became: list[Http2Downstream] = []

        def become(before: Any, data: bytes) -> None:
            became.append(Http2Downstream(stage.worker, stage.config, None, lambda lost: None))
            became[0].continue_from(before, data)

        wire.protocol.become_http2 = become
        hello = frames.PREFACE + frames.settings(())
        wire.comes(hello[:10])
        wire.comes(hello[10:])
        assert wire.protocol is became[0]
        assert wire.written[3] == frames.SETTINGS
        assert [stage.counter(f"http.t.downstream_cx_{name}") for name in ("total", "http1_total", "http2_total")] == [
            1,
            0,
            1,
        ]

    play(scene)


@pytest.mark.parametrize("body", ["", ", body: {inline_string: hi}"])
def test_a_response_whose_end_is_one_frame_too_many_ends_its_connection_alone(body: str) -> None:
    async def scene() -> None:
        stage = Stage(
            f"{{match: {{prefix: /}}, direct_response: {{status: 200{body}}}}}",
            hcm="http2_protocol_options: {max_outbound_frames: 3}",
        )
        caller = Caller(stage)
        caller.ask()
        caller.hears()
        caller.connection.pause_writing()
        for _ in range(5):
            caller.ask()
        assert stage.counter("http2.outbound_flood") == 1
        assert stage.counter("http2.streams_active") == 0
        assert stage.counter("http.t.downstream_rq_active") == 0

    play(scene)


def test_a_response_that_is_retried_while_its_connection_breaks_is_counted_once() -> None:
    async def scene() -> None:
        stage = Stage(
            "{match: {prefix: /}, route: {cluster: app, retry_policy: {retry_on: 5xx}}}",
            {"app": "http2_protocol_options: {}"},
        )
        client = stage.client()
        client.comes(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
        upstream = await stage.upstream()
        unavailable = b"\x08\x03503"
        broken = frames.header(4, frames.HEADERS, frames.END_HEADERS, 0) + unavailable[:4]
        head = frames.header(len(unavailable), frames.HEADERS, frames.END_HEADERS, 1) + unavailable
        upstream.comes(frames.settings(()) + head + broken)
        assert stage.counter("cluster.app.upstream_rq_retry") == 1
        assert stage.counter("cluster.app.upstream_rq_active") == 0
        await stage.until(lambda: len(stage.upstreams) == 2)
        again = await stage.upstream(1)
        again.comes(frames.settings(()))
        assert stage.counter("cluster.app.upstream_rq_active") == 1
        again.comes(frames.header(1, frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1) + b"\x88")
        assert client.take().startswith(b"HTTP/1.1 200 OK\r\n")
        assert stage.counter("cluster.app.upstream_rq_active") == 0

    play(scene)
