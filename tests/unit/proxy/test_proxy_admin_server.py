"""The admin listener's HTTP: strict about what it reads, and exact in what it writes."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from mesh.proxy.operations.admin.index import with_index
from mesh.proxy.operations.admin.page import BadQuery, Page, Reply, Request, Sidecar, matcher
from mesh.proxy.operations.admin.server import AdminServer


async def echo(_: Sidecar, request: Request) -> Reply:
    return Reply(f"{request.method} {request.path} {sorted(request.query.items())}\n")


async def refuse(_: Sidecar, request: Request) -> Reply:
    matcher(request)
    raise BadQuery("not like this\n")


async def fail(_: Sidecar, __: Request) -> Reply:
    raise RuntimeError("a fault in the page")


PAGES = with_index(
    {
        "/echo": Page("/echo", "say it again", echo, parameters={"a": "anything"}),
        "/change": Page("/change", "change it", echo, changes=True),
        "/refuse": Page("/refuse", "never", refuse),
        "/fail": Page("/fail", "broken", fail),
    }
)


def conversation(sent: bytes) -> bytes:
    """What the server answers to these bytes until it, or the end of them, closes the connection."""

    async def main() -> bytes:
        server = AdminServer(cast(Sidecar, None), PAGES)
        host, port = await server.start("127.0.0.1", 0)
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(sent)
                writer.write_eof()
                received = await reader.read()
                writer.close()
                return received
        finally:
            await server.close()

    return asyncio.run(main())


def get(target: str, method: str = "GET") -> tuple[int, str]:
    head, _, body = conversation(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def test_requests_on_one_connection_are_answered_in_order() -> None:
    received = conversation(
        b"GET /echo?a=1&b HTTP/1.1\r\nHost: a\r\n\r\nPOST /change HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyz"
    )
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert received.index(b"GET /echo [('a', '1'), ('b', '')]\n") < received.index(b"POST /change []\n")


def test_headers_are_envoys() -> None:
    head = conversation(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n").partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert head[1:5] == [
        b"content-type: text/plain; charset=UTF-8",
        b"cache-control: no-cache, max-age=0",
        b"x-content-type-options: nosniff",
        b"content-length: 13",
    ]


def test_a_client_that_asks_for_it_is_let_go() -> None:
    received = conversation(
        b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /echo HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    assert received.count(b"HTTP/1.1 200 OK") == 1
    assert b"\r\nconnection: close\r\n" in received


def test_head_has_no_body() -> None:
    assert get("/echo", "HEAD") == (200, "")


def test_what_changes_something_takes_post_only() -> None:
    assert get("/change") == (405, "Method GET not allowed, POST required.")
    assert get("/change", "POST")[0] == 200


def test_an_unknown_path_lists_the_pages() -> None:
    status, body = get("/nope")
    assert status == 404
    assert body.startswith("invalid path. admin commands are:\n  /: Admin home page\n  /change (POST): change it\n")
    assert "  /echo: say it again\n      a: anything\n" in body


@pytest.mark.parametrize("target", ["//[", "//[::1/x", "/%ff%00"])
def test_a_path_that_is_no_url_is_an_unknown_one(target: str) -> None:
    assert get(target)[0] == 404


def test_the_home_page_links_what_reads_and_posts_what_changes() -> None:
    body = get("/")[1]
    assert "<a href='echo'>echo</a>" in body
    assert "<form action='change' method='post'>" in body


def test_a_wrong_parameter_is_400_with_the_reason() -> None:
    assert get("/refuse") == (400, "not like this\n")
    assert get("/refuse?filter=(")[0] == 400


def test_a_page_that_breaks_is_500_and_breaks_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    received = conversation(b"GET /fail HTTP/1.1\r\nHost: a\r\n\r\nGET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 500 ")
    assert b"a fault in the page" not in received
    assert b"HTTP/1.1 200 OK" in received
    assert "a fault in the page" in caplog.text


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /echo HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /echo HTTP/1.1\r\n\r\n", 400),
        (b"GET /echo HTTP/1.0\r\n\r\n", 426),
        (b"POST /change HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /change HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /change HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", 400),
        (b"POST /change HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"GET /echo HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_not_plain_http_is_refused_and_the_connection_ends(sent: bytes, status: int) -> None:
    received = conversation(sent)
    assert received.startswith(f"HTTP/1.1 {status} ".encode())
    assert received.count(b"HTTP/1.1") == 1
    assert b"\r\nconnection: close\r\n" in received


@pytest.mark.parametrize("sent", [b"", b"GET /ec", b"POST /change HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc"])
def test_a_client_that_leaves_in_the_middle_gets_nothing(sent: bytes) -> None:
    assert conversation(sent) == b""
