"""Requests and responses through the sidecar, byte by byte."""

from __future__ import annotations

import pytest
from proxy_messages import GET, GOT, OK, SENT, TO_APP, local
from proxy_stage import Stage, Wire, play


def test_a_request_and_its_response() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(GET)
        app = await stage.upstream()
        assert app.take() == SENT
        app.comes(OK)
        assert client.take() == GOT
        assert not client.is_closed
        assert stage.counter("http.t.downstream_rq_2xx") == 1

    play(scene)


def test_every_split_of_messages_with_trailers_gives_the_same() -> None:
    options = "http_protocol_options: {enable_trailers: true}"
    head = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    body = b"2\r\nhi\r\n0\r\nx-sum: 2\r\n\r\n"

    def joined(wire: bytes) -> bytes:
        """The payload of one chunk, however it was cut."""
        return wire.replace(b"1\r\nh\r\n1\r\ni\r\n", b"2\r\nhi\r\n")

    async def scene() -> None:
        stage = Stage(TO_APP, {"app": options}, hcm=options)
        client = stage.client()
        for at in range(len(body)):
            client.comes(head + body[:at])
            client.comes(body[at:])
            app = await stage.upstream()
            assert joined(app.take()).endswith(b"transfer-encoding: chunked\r\n\r\n" + body), at
            app.comes(answer + body[:at])
            app.comes(body[at:])
            assert joined(client.take()).endswith(b"transfer-encoding: chunked\r\n\r\n" + body), at
        assert len(stage.upstreams) == 1  # one connection served them all
        assert not client.is_closed

    play(scene)


def test_every_split_of_request_and_response_gives_the_same() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        app: Wire | None = None
        for at in range(1, max(len(GET), len(OK))):
            client.comes(GET[:at])
            client.comes(GET[at:]) if GET[at:] else None
            app = await stage.upstream()
            assert app.take() == SENT
            app.comes(OK[:at])
            app.comes(OK[at:]) if OK[at:] else None
            assert client.take() == GOT
        assert len(stage.upstreams) == 1  # one connection served them all

    play(scene)


def test_pipelined_requests_are_answered_in_order() -> None:
    async def scene() -> None:
        routes = '{match: {path: "/now"}, direct_response: {status: 200, body: {inline_string: now}}}, ' + TO_APP
        stage = Stage(routes)
        client = stage.client()
        client.comes(GET + b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
        app = await stage.upstream()
        assert client.take() == b""
        app.comes(OK)
        assert client.take() == GOT + local("200 OK", "now")
        app.comes(OK)
        assert client.take() == GOT

    play(scene)


def test_bytes_after_a_response_close_the_connection_and_reach_nobody() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(GET)
        (await stage.upstream()).comes(OK + OK)
        assert client.take() == GOT
        await stage.settle()
        assert stage.upstreams[0].is_closed
        client.comes(GET)
        assert (await stage.upstream(1)).take() == SENT
        assert client.take() == b""

    play(scene)


def test_an_unasked_response_on_an_idle_connection_closes_it() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(GET)
        app = await stage.upstream()
        app.comes(OK)
        app.comes(OK)
        await stage.settle()
        assert app.is_closed
        assert client.take() == GOT

    play(scene)


def test_chunked_both_ways_without_extensions_and_trailers() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n")
        app = await stage.upstream()
        assert app.take().endswith(b"\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        client.comes(b"0\r\nTrailer: z\r\n\r\n")
        assert app.take() == b"0\r\n\r\n"
        app.comes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
        assert client.take().endswith(b"server: envoy\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")

    play(scene)


def test_a_response_that_ends_with_its_connection_goes_out_chunked() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(GET)
        app = await stage.upstream()
        app.comes(b"HTTP/1.1 200 OK\r\n\r\nabc")
        app.ends()
        assert client.take().endswith(b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        assert not client.is_closed

    play(scene)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_responses_without_body_are_complete_with_their_head(status: bytes) -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(GET)
        app = await stage.upstream()
        app.comes(b"HTTP/1.1 %b\r\n\r\n" % status)
        assert b"transfer-encoding" not in client.take()
        client.comes(GET)
        await stage.settle()
        assert app.take().endswith(b"\r\n\r\n")
        assert len(stage.upstreams) == 1

    play(scene)


def test_expect_100_continue_is_answered_by_the_proxy_and_not_passed_on() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
        app = await stage.upstream()
        assert b"xpect:" not in app.take()
        client.comes(b"ab")
        assert app.take() == b"ab"

    play(scene)


def test_a_response_before_the_request_is_complete_ends_both_connections() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        app = await stage.upstream()
        app.comes(OK)
        assert b"connection: close" in client.take()
        await stage.settle()
        assert client.is_half_closed  # and lingers, because the client is still sending
        assert app.is_closed
        client.comes(b"defghi")
        await stage.until(lambda: client.is_closed)

    play(scene)


def test_back_pressure_goes_from_client_to_upstream_and_back() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(GET)
        app = await stage.upstream()
        app.comes(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")
        client.protocol.pause_writing()
        assert app.is_paused
        client.protocol.resume_writing()
        assert not app.is_paused
        app.protocol.pause_writing()
        assert client.is_paused
        app.protocol.resume_writing()
        assert not client.is_paused

    play(scene)


def test_a_slow_client_does_not_hold_up_a_connection_that_went_back_to_its_pool() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        slow, quick = stage.client(), stage.client()
        slow.comes(GET)
        app = await stage.upstream()
        app.comes(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc")
        slow.blocks_at = 0
        app.comes(b"def")
        assert not app.is_paused
        quick.comes(GET)
        await stage.settle()
        app.comes(OK)
        assert quick.take() == GOT

    play(scene)


def test_a_virtual_host_that_requires_tls_redirects() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP, virtual_host="require_tls: ALL,")
        client = stage.client()
        client.comes(b"GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.take().startswith(b"HTTP/1.1 301 Moved Permanently\r\nlocation: https://a/x?y\r\n")

    play(scene)


@pytest.mark.parametrize(
    ("request_bytes", "answer"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\nHost: a\n\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 Bad Request"),
        (b"NONSENSE / HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "400 Bad Request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", "400 Bad Request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "501 Not Implemented"),
        (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", "426 Upgrade Required"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 62_000 + b"\r\n\r\n", "431 Request Header Fields Too Large"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n", "431 Request Header Fields Too Large"),
    ],
)
def test_malformed_requests_are_refused_and_the_connection_ends(request_bytes: bytes, answer: str) -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(request_bytes)
        assert client.take() == local(answer, answer[4:], close=True)
        assert client.is_half_closed
        client.comes(GET)
        await stage.settle()
        assert client.take() == b""
        assert stage.upstreams == []

    play(scene)


def test_hop_by_hop_headers_end_here() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(
            b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\n\r\n"
        )
        app = await stage.upstream()
        assert app.take() == SENT
        app.comes(
            b"HTTP/1.1 200 OK\r\nConnection: close, X-Theirs\r\nX-Theirs: 1\r\ncontent-length: 2\r\nServer: s\r\n\r\nhi"
        )
        assert client.take() == GOT.replace(b"server: envoy\r\n", b"server: envoy\r\nconnection: close\r\n")
        await stage.settle()
        assert client.is_closed
        assert app.is_closed

    play(scene)


def test_a_connection_whose_listener_changed_still_takes_a_request() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.protocol.drain(45)
        assert not client.is_closed
        client.comes(GET)
        (await stage.upstream()).comes(OK)
        assert b"connection: close" in client.take()
        assert client.is_closed

    play(scene)


def test_draining_ends_connections_after_their_response() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        busy, idle = stage.client(), stage.client()
        busy.comes(GET)
        app = await stage.upstream()
        for client in (busy, idle):
            client.protocol.drain(0)
        assert not idle.is_closed  # its client may just have sent a request
        assert not busy.is_closed
        app.comes(OK)
        assert b"connection: close" in busy.take()
        assert busy.is_closed
        await stage.until(lambda: idle.is_closed)

    play(scene)
