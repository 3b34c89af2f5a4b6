"""Mirrored requests: bodies go along, and a mirror that lags is given up without a trace on the request."""

from __future__ import annotations

from typing import Any

from proxy_stage import Stage, play

ROUTE = '{match: {prefix: "/"}, route: {cluster: app, request_mirror_policies: [{cluster: copy}]}, %s}'
CLUSTERS = {"app": "port: 80", "copy": "port: 81"}
POST = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 12\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def mirrored(limit: int) -> Stage:
    return Stage(ROUTE % f"request_body_buffer_limit: {limit}", CLUSTERS)


async def both(stage: Stage) -> tuple[Any, Any]:
    """The wires to the app and to the mirror."""
    await stage.settle()
    first, second = stage.upstreams
    return (second, first) if b"host: h-shadow" in first.written else (first, second)


def test_a_body_reaches_the_mirror_as_it_comes() -> None:
    async def scene() -> None:
        stage = mirrored(1024)
        client = stage.client()
        client.comes(POST + b"hello ")
        app, copy = await both(stage)
        client.comes(b"world!")
        assert app.take().endswith(b"\r\n\r\nhello world!")
        assert copy.take().endswith(b"\r\n\r\nhello world!")
        app.comes(OK)
        assert client.take().endswith(b"\r\n\r\nok")
        copy.comes(OK)
        assert client.take() == b""
        assert stage.counter("cluster.copy.upstream_rq_200") == 1

    play(scene)


def test_a_mirror_that_does_not_keep_pace_is_given_up() -> None:
    async def scene() -> None:
        stage = mirrored(4)
        client = stage.client()
        client.comes(POST)
        app, copy = await both(stage)
        copy.protocol.pause_writing()
        client.comes(b"hello ")
        await stage.settle()
        assert copy.is_closed
        client.comes(b"world!")
        assert app.take().endswith(b"\r\n\r\nhello world!")
        app.comes(OK)
        assert client.take().endswith(b"\r\n\r\nok")
        assert stage.counter("cluster.copy.upstream_rq_active") == 0

    play(scene)


def test_a_client_that_leaves_in_its_body_ends_the_mirror() -> None:
    async def scene() -> None:
        stage = mirrored(1024)
        client = stage.client()
        client.comes(POST + b"hel")
        app, copy = await both(stage)
        client.ends()
        await stage.settle()
        assert app.is_closed
        assert copy.is_closed
        assert len(stage.worker.deadlines) == 0

    play(scene)


def test_a_mirror_outlives_its_request() -> None:
    async def scene() -> None:
        stage = mirrored(1024)
        client = stage.client()
        client.comes(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        app, copy = await both(stage)
        app.comes(OK)
        assert client.take().endswith(b"\r\n\r\nok")
        client.ends()
        await stage.settle()
        copy.comes(OK)
        assert stage.counter("cluster.copy.upstream_rq_200") == 1

    play(scene)
