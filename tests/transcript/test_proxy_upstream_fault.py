"""Faults below the retry: tries meet them, and so do the timeouts."""

from __future__ import annotations

from typing import Any

import pytest
from proxy_stage import Stage, play

from mesh.proxy.resources import Refused

RETRIED = (
    '{match: {prefix: "/"}, route: {cluster: app, retry_policy: {retry_on: 5xx, num_retries: 2, '
    "retry_back_off: {base_interval: 0.001s}, per_try_timeout: 0.03s}}}"
)
COUNTED = "include_request_attempt_count: true,"
GET = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"


def faulty(fault: str) -> str:
    return (
        "{name: meshdrill.upstream_fault, is_optional: true, typed_config: {"
        '"@type": type.googleapis.com/xds.type.v3.TypedStruct, '
        f"type_url: type.googleapis.com/meshdrill.upstream_fault, value: {fault}}}}},"
    )


def always(what: str) -> str:
    return f"{{{what}, percentage: {{numerator: 100}}}}"


def test_each_try_is_aborted_until_retries_run_out() -> None:
    async def scene() -> None:
        stage = Stage(RETRIED, filters=faulty(f"{{abort: {always('http_status: 503')}}}"))
        client = stage.client()
        client.comes(GET)
        await stage.until(lambda: client.written)
        answer = client.take()
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert answer.endswith(b"\r\n\r\nfault filter abort")
        assert stage.upstreams == []
        assert stage.counter("http.t.fault.aborts_injected") == 3
        assert stage.counter("cluster.app.upstream_rq_retry") == 2
        assert stage.counter("cluster.app.upstream_rq_503") == 1

    play(scene)


def test_a_fault_of_the_first_try_is_retried() -> None:
    async def scene() -> None:
        first = 'headers: [{name: x-envoy-attempt-count, string_match: {exact: "1"}}]'
        fault = faulty(f"{{{first}, abort: {always('http_status: 500')}}}")
        stage = Stage(RETRIED, filters=fault, virtual_host=COUNTED)
        client = stage.client()
        client.comes(GET)
        await stage.until(lambda: stage.upstreams)
        upstream: Any = await stage.upstream()
        assert b"x-envoy-attempt-count: 2" in upstream.take()
        upstream.comes(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        assert client.take().endswith(b"\r\n\r\nok")
        assert stage.counter("cluster.app.upstream_rq_retry_success") == 1

    play(scene)


def test_a_delay_runs_into_the_timeout_of_its_try() -> None:
    async def scene() -> None:
        stage = Stage(RETRIED, filters=faulty(f"{{delay: {always('fixed_delay: 60s')}}}"))
        client = stage.client()
        client.comes(GET)
        await stage.until(lambda: client.written)
        assert client.take().startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
        assert stage.upstreams == []
        assert stage.counter("cluster.app.upstream_rq_per_try_timeout") == 3
        assert stage.counter("http.t.fault.delays_injected") == 3

    play(scene)


def test_after_its_delay_a_try_goes_on() -> None:
    async def scene() -> None:
        stage = Stage(RETRIED, filters=faulty(f"{{delay: {always('fixed_delay: 0.01s')}}}"))
        client = stage.client()
        client.comes(GET)
        await stage.until(lambda: stage.upstreams)
        (await stage.upstream()).comes(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert client.take().startswith(b"HTTP/1.1 204 No Content\r\n")

    play(scene)


def test_a_client_that_leaves_during_a_delay_leaves_nothing_behind() -> None:
    async def scene() -> None:
        stage = Stage(RETRIED, filters=faulty(f"{{delay: {always('fixed_delay: 60s')}}}"))
        client = stage.client()
        client.comes(GET)
        await stage.settle()
        client.ends()
        await stage.settle()
        assert len(stage.worker.deadlines) == 0
        assert stage.counter("http.t.downstream_rq_active") == 0

    play(scene)


def test_what_makes_no_sense_below_the_retry_is_refused() -> None:
    async def scene() -> None:
        with pytest.raises(Refused, match="max_active_faults"):
            Stage(RETRIED, filters=faulty("{max_active_faults: 3}"))

    play(scene)
