"""Requests and responses through the sidecar, byte by byte."""

from __future__ import annotations

import asyncio

import pytest
from proxy_stage import Stage, Wire, play

TO_APP = '{match: {prefix: "/"}, route: {cluster: app}}'
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
SENT = (
    b"GET /x HTTP/1.1\r\nHost: a\r\nx-forwarded-proto: http\r\nx-request-id: I\r\n"
    b"x-envoy-expected-rq-timeout-ms: 15000\r\n\r\n"
)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
GOT = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-envoy-upstream-service-time: T\r\ndate: D\r\nserver: envoy\r\n\r\nhi"


def local(status: str, body: str = "", *, close: bool = False) -> bytes:
    """A local reply as the proxy writes it."""
    head = f"HTTP/1.1 {status}\r\n"
    head += f"content-length: {len(body)}\r\ncontent-type: text/plain\r\n" if body else ""
    head += "date: D\r\nserver: envoy\r\n" + ("connection: close\r\n" if close else "")
    return (head + ("" if body else "content-length: 0\r\n") + "\r\n" + body).encode()


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


def test_a_client_that_leaves_takes_its_upstream_request_along() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(GET)
        app = await stage.upstream()
        client.ends()
        assert app.is_closed
        await stage.settle()
        assert stage.counter("cluster.app.upstream_rq_active") == 0
        assert stage.counter("http.t.downstream_rq_rx_reset") == 1

    play(scene)


def test_an_upstream_that_dies_before_its_head() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(GET)
        (await stage.upstream()).ends()
        words = "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
        assert client.take() == local("503 Service Unavailable", words)
        assert not client.is_closed

    play(scene)


def test_an_upstream_that_dies_in_its_body_resets_the_client() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(GET)
        app = await stage.upstream()
        app.comes(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
        app.ends(ConnectionResetError())
        assert client.take().endswith(b"\r\n\r\nabc")
        assert client.is_closed

    play(scene)


def test_nobody_listens() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        stage.refused_ports.add(80)
        client = stage.client()
        client.comes(GET)
        await stage.settle()
        words = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
        assert client.take() == local("503 Service Unavailable", words)

    play(scene)


def test_no_answer_in_time() -> None:
    async def scene() -> None:
        stage = Stage('{match: {prefix: "/"}, route: {cluster: app, timeout: 0.03s}}')
        client = stage.client()
        client.comes(GET)
        app = await stage.upstream()
        await stage.until(lambda: client.written)
        assert client.take() == local("504 Gateway Timeout", "upstream request timeout")
        assert app.is_closed
        assert stage.counter("cluster.app.upstream_rq_timeout") == 1

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


RETRY = '{match: {prefix: "/"}, route: {cluster: app, retry_policy: {retry_on: "connect-failure,5xx", num_retries: 2, retry_back_off: {base_interval: 0.001s}}}}'  # noqa: E501


def test_a_retry_sends_the_body_again_and_the_client_sees_one_answer() -> None:
    async def scene() -> None:
        stage = Stage(RETRY)
        client = stage.client()
        client.comes(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd")
        app = await stage.upstream()
        first = app.take()
        assert first.endswith(b"\r\n\r\nabcd")
        app.comes(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
        await stage.until(lambda: app.written)
        assert app.take() == first
        app.comes(OK)
        assert client.take() == GOT
        assert stage.counter("cluster.app.upstream_rq_retry") == 1
        assert stage.counter("cluster.app.upstream_rq_retry_success") == 1

    play(scene)


def test_retries_run_out() -> None:
    async def scene() -> None:
        stage = Stage(RETRY)
        client = stage.client()
        client.comes(GET)
        app = await stage.upstream()
        for _ in range(3):
            await stage.until(lambda: app.written)
            app.take()
            app.comes(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
        assert client.take().startswith(b"HTTP/1.1 503 ")
        assert stage.counter("cluster.app.upstream_rq_retry_limit_exceeded") == 1

    play(scene)


def test_the_breaker_refuses_what_exceeds_connections_and_queue() -> None:
    async def scene() -> None:
        limits = "circuit_breakers: {thresholds: [{max_connections: 1, max_pending_requests: 1}]}"
        stage = Stage(TO_APP, {"app": limits})
        clients = [stage.client() for _ in range(3)]
        for client in clients:
            client.comes(GET)
            await stage.settle()
        words = "upstream connect error or disconnect/reset before headers. reset reason: overflow"
        refused = clients[2].take()
        assert refused.endswith(words.encode())
        assert b"x-envoy-overloaded: true" in refused
        assert stage.counter("cluster.app.upstream_rq_pending_overflow") == 1
        stage.upstreams[0].comes(OK)
        assert clients[0].take() == GOT
        stage.upstreams[0].comes(OK)
        assert clients[1].take() == GOT

    play(scene)


FAULT = """{name: fault, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault,
  delay: {fixed_delay: 0.03s, percentage: {numerator: 100}}, abort: {http_status: 418, percentage: {numerator: 100}},
  headers: [{name: end-user, string_match: {exact: jason}}]}},"""


def test_a_fault_delays_then_aborts_those_it_is_meant_for() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP, filters=FAULT)
        client = stage.client()
        client.comes(b"GET /x HTTP/1.1\r\nHost: a\r\nend-user: jason\r\n\r\n")
        await stage.settle()
        assert client.take() == b""
        assert stage.counter("http.t.fault.active_faults") == 1
        await stage.until(lambda: client.written)
        assert client.take() == local("418 Unknown", "fault filter abort")
        assert stage.counter("http.t.fault.active_faults") == 0
        client.comes(GET)
        assert (await stage.upstream()).take() == SENT

    play(scene)


def test_a_client_that_leaves_during_a_delay_frees_its_fault() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP, filters=FAULT)
        client = stage.client()
        client.comes(b"GET /x HTTP/1.1\r\nHost: a\r\nend-user: jason\r\n\r\n")
        client.ends()
        assert stage.counter("http.t.fault.active_faults") == 0
        await asyncio.sleep(0)
        assert stage.upstreams == []

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
        assert idle.is_closed
        assert not busy.is_closed
        app.comes(OK)
        assert b"connection: close" in busy.take()
        assert busy.is_closed

    play(scene)
