"""The ClientHello as real clients send it, and as nobody should."""

from __future__ import annotations

import ssl

from hypothesis import given
from hypothesis import strategies as st

from mesh.proxy.downstream.client_hello import ClientHello, read_client_hello


def hello(name: str | None, alpn: list[str]) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(alpn)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def test_server_name_and_alpn() -> None:
    sni = "outbound_.9080_._.reviews.default.svc.cluster.local"
    assert read_client_hello(hello(sni, ["istio", "h2"])) == ClientHello(sni, ("istio", "h2"))
    assert read_client_hello(hello(None, [])) == ClientHello()


def test_more_bytes_are_asked_for_until_it_is_whole() -> None:
    whole = hello("a", ["istio"])
    assert all(read_client_hello(whole[:end]) is None for end in range(len(whole)))


def test_a_hello_over_several_records() -> None:
    whole = hello("a", ["istio"])
    message = whole[5:]
    cut = len(message) // 2
    parts = [message[:cut], message[cut:]]
    split = b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)
    assert read_client_hello(split) == ClientHello("a", ("istio",))


@given(st.binary(max_size=200))
def test_any_bytes_read_as_something(data: bytes) -> None:
    found = read_client_hello(b"\x16\x03\x01" + data)
    assert found is None or isinstance(found, ClientHello)
