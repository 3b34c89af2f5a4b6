"""Requests that fail, byte by byte: clients and upstreams that go, times that run out, retries, breakers and faults."""

from __future__ import annotations

import asyncio

from proxy_messages import GET, GOT, OK, SENT, TO_APP, local
from proxy_stage import Stage, play


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


def test_a_host_is_not_blamed_for_time_that_passed_before_its_connection() -> None:
    async def scene() -> None:
        stage = Stage(
            "{match: {prefix: /}, route: {cluster: app, timeout: 0.05s}}",
            {"app": "outlier_detection: {consecutive_5xx: 1, max_ejection_percent: 100}"},
        )
        stage.silent_ports.add(80)
        client = stage.client()
        for _ in range(3):
            client.comes(GET)
            await stage.until(lambda: client.written)
            assert client.take() == local("504 Gateway Timeout", "upstream request timeout")
        assert stage.counter("cluster.app.upstream_rq_timeout") == 3
        assert stage.counter("cluster.app.outlier_detection.ejections_active") == 0

    play(scene)
