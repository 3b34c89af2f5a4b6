"""Setting a header puts it in the place of the one that was there, on either kind of head."""

from __future__ import annotations

import pytest

from mesh.proxy.http1.parse import parse_request, parse_response

NAMES = (b"x-request-id", b"content-type", b"server", b"x-other", b"user-agent", b"x-envoy-attempt-count")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nHost: h", b"HTTP/1.1 200 OK\r\nx-first: 1"])
def test_a_header_that_is_set_is_there_once(start: bytes, name: bytes) -> None:
    parse = parse_response if start.startswith(b"HTTP") else parse_request
    head = parse(start + b"\r\n" + name.title() + b": before")
    head.set(name, b"after")
    assert head.get(name) == b"after"
    assert [value for each, value in head.items() if each == name] == [b"after"]
