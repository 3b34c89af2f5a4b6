"""Peers that misbehave: nothing they do may hang, mix up or pile up what others have."""

from __future__ import annotations

import tracemalloc

import pytest
from proxy_messages import GET, OK, TO_APP
from proxy_stage import Stage, play

from mesh.proxy.http1.parse import parse_request

RETRIED = (
    '{match: {prefix: "/"}, route: {cluster: app, retry_policy: {retry_on: "5xx,connect-failure,reset", '
    'num_retries: 2, retry_back_off: {base_interval: "0.001s"}}}}'
)
NOW = '{match: {path: "/now"}, direct_response: {status: 200, body: {inline_string: now}}}, '
GET_NOW = b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n"
CHUNKED = b"POST /now HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_client_that_never_reads_is_not_read_for_ever() -> None:
    async def scene() -> None:
        stage = Stage(NOW + TO_APP)
        client = stage.client()
        client.blocks_at = 0
        client.comes(GET_NOW)
        for _ in range(4000):
            client.comes(GET_NOW) if not client.is_paused else None
        assert client.is_paused
        client.blocks_at = None
        client.protocol.resume_writing()
        assert not client.is_paused
        answered = client.take().count(b"\r\n\r\nnow")
        client.comes(GET_NOW)
        assert answered > 1000
        assert client.take().count(b"\r\n\r\nnow") == 1

    play(scene)


def test_a_body_that_waited_for_a_connection_is_read_on_when_it_may_be_retried() -> None:
    async def scene() -> None:
        stage = Stage(RETRIED)
        client = stage.client()
        client.comes(POST)
        client.comes(b"x" * 1_100_000)
        assert client.is_paused
        app = await stage.upstream()
        assert len(app.take()) > 1_100_000
        assert not client.is_paused
        client.comes(b"x" * 900_000)
        assert len(app.take()) == 900_000
        app.comes(OK)
        assert client.take().endswith(b"hi")

    play(scene)


def test_thousands_of_interim_responses_at_once_are_skipped() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(GET)
        (await stage.upstream()).comes(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5000 + OK)
        assert client.take().endswith(b"hi")

    play(scene)


def test_a_request_that_breaks_while_it_waits_for_a_connection_is_never_sent() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP)
        client = stage.client()
        client.comes(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.comes(b"zz\r\n")
        assert client.take().startswith(b"HTTP/1.1 400 ")
        app = await stage.upstream()
        assert app.take() == b""
        assert stage.counter("cluster.app.upstream_rq_pending_active") == 0
        assert stage.counter("cluster.app.upstream_rq_active") == 0

    play(scene)


def test_a_response_that_breaks_after_it_was_given_up_counts_once() -> None:
    async def scene() -> None:
        stage = Stage(RETRIED)
        client = stage.client()
        client.comes(GET)
        app = await stage.upstream()
        app.comes(b"HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        assert stage.counter("cluster.app.upstream_rq_active") == 0
        assert client.take() == b""
        await stage.until(lambda: len(stage.upstreams) > 1 and stage.upstreams[1].written)
        stage.upstreams[1].comes(OK)
        assert client.take().endswith(b"hi")
        assert stage.counter("cluster.app.upstream_rq_active") == 0
        assert stage.counter("cluster.app.upstream_rq_retry") == 1

    play(scene)


def test_everyone_who_waits_behind_a_full_breaker_is_answered() -> None:
    async def scene() -> None:
        limits = "circuit_breakers: {thresholds: [{max_connections: 1, max_requests: 1}]}\n"
        stage = Stage(TO_APP, {"app": f"port: 80\nport: 81\n{limits}"})
        busy = stage.client()
        busy.comes(GET)
        await stage.settle()
        waiting = [stage.client() for _ in range(4)]
        for client in waiting:
            client.comes(GET)
        await stage.settle()
        stage.upstreams[0].comes(OK)
        await stage.settle()
        for app in stage.upstreams:
            app.comes(OK) if app.written else None
        await stage.settle()
        assert stage.counter("cluster.app.upstream_rq_pending_active") == 0

    play(scene)


def test_empty_lines_between_requests_are_skipped() -> None:
    async def scene() -> None:
        stage = Stage(NOW + TO_APP)
        client = stage.client()
        client.comes(GET_NOW + b"\r\n" + GET_NOW)
        assert client.take().count(b"\r\n\r\nnow") == 2

    play(scene)


def test_a_client_that_takes_nothing_of_a_last_response_is_let_go_and_a_slow_one_is_not() -> None:
    async def scene() -> None:
        stage = Stage(NOW + TO_APP, hcm="delayed_close_timeout: 0.05s")
        slow, stuck = stage.client(), stage.client()
        for client in (slow, stuck):
            client.unsent = 1000
            client.comes(b"GET /now HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert client.is_closed

        def slow_takes_some() -> bool:
            slow.unsent -= 1
            return not stuck.unsent

        await stage.until(slow_takes_some)
        await stage.settle()
        assert slow.unsent
        assert stage.counter("http.t.downstream_cx_active") == 1
        assert stage.counter("http.t.downstream_cx_delayed_close_timeout") == 1
        slow.abort()

    play(scene)


def test_a_try_is_timed_from_when_a_late_body_is_complete() -> None:
    async def scene() -> None:
        retries = 'retry_policy: {retry_on: "5xx", num_retries: 1, per_try_timeout: 0.05s}'
        stage = Stage(f'{{match: {{prefix: "/"}}, route: {{cluster: app, timeout: 0s, {retries}}}}}')
        client = stage.client()
        client.comes(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        app = await stage.upstream()
        client.comes(b"cd")
        await stage.until(lambda: app.is_closed)
        await stage.until(lambda: len(stage.upstreams) > 1 and stage.upstreams[1].written)
        stage.upstreams[1].comes(OK)
        assert client.take().endswith(b"hi")
        assert stage.counter("cluster.app.upstream_rq_per_try_timeout") == 1

    play(scene)


def test_long_header_names_are_not_remembered() -> None:
    tracemalloc.start()
    try:
        for number in range(500):
            parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n%b%d: v" % (b"n" * 50_000, number))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n",
        CHUNKED + b"2;a\rb\r\nhi\r\n0\r\n\r\n",
        CHUNKED + b"2;a\0b\r\nhi\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nhi\r\n0\r\nX: a\rb\r\n\r\n",
        CHUNKED + b"2\r\nhi\r\n0\r\nX: \0\r\n\r\n",
    ],
)
def test_control_characters_are_refused_wherever_they_hide(sent: bytes) -> None:
    async def scene() -> None:
        stage = Stage(NOW + TO_APP)
        client = stage.client()
        client.comes(sent)
        assert client.take().startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert not stage.upstreams

    play(scene)
