"""Options of HTTP/1 connections that show in bytes alone."""

from __future__ import annotations

import pytest

from tests.transcript.proxy_stage import Stage, play

ROUTE = "{match: {prefix: /}, route: {cluster: app}}"


def test_names_of_responses_in_proper_case() -> None:
    async def scene() -> None:
        stage = Stage(ROUTE, hcm="http_protocol_options: {header_key_format: {proper_case_words: {}}}")
        client = stage.client()
        client.comes(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        upstream = await stage.upstream()
        upstream.comes(b"HTTP/1.1 200 OK\r\nx-foo-bar: a\r\ncontent-length: 0\r\n\r\n")
        status, *lines = client.take().removesuffix(b"\r\n\r\n").split(b"\r\n")
        assert status == b"HTTP/1.1 200 OK"
        names = [line.partition(b":")[0] for line in lines]
        assert names == [b"X-Foo-Bar", b"Content-Length", b"X-Envoy-Upstream-Service-Time", b"Date", b"Server"]

    play(scene)


def test_an_answer_to_http_10_is_one() -> None:
    async def scene() -> None:
        stage = Stage(ROUTE, hcm="http_protocol_options: {accept_http_10: true}")
        client = stage.client()
        client.comes(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n")
        upstream = await stage.upstream()
        assert upstream.take().startswith(b"GET / HTTP/1.1\r\nhost: a\r\n")
        upstream.comes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n")
        assert client.take() == (
            b"HTTP/1.0 200 OK\r\nx-envoy-upstream-service-time: T\r\ndate: D\r\nserver: envoy\r\n"
            b"connection: close\r\n\r\nhe"
        )
        upstream.comes(b"3\r\nllo\r\n0\r\n\r\n")
        assert client.take() == b"llo"
        assert client.is_closed

    play(scene)


@pytest.mark.parametrize(("limit", "waits"), [(8192, True), (1 << 20, False)])
def test_the_connections_buffer_limit_holds_the_upstream_up(limit: int, waits: bool) -> None:
    async def scene() -> None:
        stage = Stage(ROUTE, listener=f"per_connection_buffer_limit_bytes: {limit}")
        client = stage.client()
        client.comes(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        upstream = await stage.upstream()
        upstream.comes(b"HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\n" + b"x" * 10000)
        assert upstream.is_paused is waits

    play(scene)


def test_names_keep_their_case_where_it_is_to_be_preserved() -> None:
    async def scene() -> None:
        kind = (
            "type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"
        )
        formatter = f"{{name: preserve_case, typed_config: {{'@type': {kind}}}}}"
        options = f"http_protocol_options: {{header_key_format: {{stateful_formatter: {formatter}}}}}"
        stage = Stage(ROUTE, hcm=options)
        client = stage.client()
        client.comes(b"GET / HTTP/1.1\r\nHost: a\r\nX-FoO: b\r\n\r\n")
        upstream = await stage.upstream()
        assert b"\r\nX-FoO: b\r\n" in upstream.take()
        upstream.comes(b"HTTP/1.1 200 OK\r\nX-BaR: c\r\ncontent-length: 0\r\n\r\n")
        assert b"\r\nX-BaR: c\r\n" in client.take()

    play(scene)
