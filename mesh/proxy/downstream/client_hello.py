"""The parts of a TLS ClientHello that choose a filter chain: server name (RFC 6066) and ALPN (RFC 7301)."""

from __future__ import annotations

from dataclasses import dataclass

_SERVER_NAME = 0
_ALPN = 16
_MOST_RECORDS = 32  # nobody cuts a hello so finely but to have it read again and again


@dataclass(frozen=True, slots=True)
class ClientHello:
    server_name: str = ""
    alpn: tuple[str, ...] = ()


def read_client_hello(data: bytes) -> ClientHello | None:
    """Read it from the first bytes of a connection; None while more are needed. What is no ClientHello reads as empty.

    TLS itself will refuse what is malformed, so nothing is checked here beyond what reading needs.
    """
    message = b""
    at = records = 0
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        records += 1
        if records > _MOST_RECORDS:
            return ClientHello()
        if len(data) < at + 5:
            return None
        if data[at] != 0x16:
            return ClientHello()
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        if len(data) < at + 5 + size:
            return None
        message += data[at + 5 : at + 5 + size]
        at += 5 + size
        if message and message[0] != 1:
            return ClientHello()
    return _extensions(_Reader(message[4:]))


class _Reader:
    """Takes length-prefixed pieces; past the end everything is empty."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, count: int) -> bytes:
        piece, self.data = self.data[:count], self.data[count:]
        return piece

    def vector(self, prefix: int) -> bytes:
        return self.take(int.from_bytes(self.take(prefix), "big"))


def _extensions(body: _Reader) -> ClientHello:
    body.take(34)  # version and random
    body.vector(1)  # session id
    body.vector(2)  # cipher suites
    body.vector(1)  # compression
    extensions = _Reader(body.vector(2))
    name = ""
    alpn: tuple[str, ...] = ()
    while extensions.data:
        kind = int.from_bytes(extensions.take(2), "big")
        content = _Reader(extensions.vector(2))
        if kind == _SERVER_NAME:
            names = _Reader(content.vector(2))
            names.take(1)
            name = names.vector(2).decode("ascii", "replace")
        elif kind == _ALPN:
            alpn = _protocols(_Reader(content.vector(2)))
    return ClientHello(name, alpn)


def _protocols(names: _Reader) -> tuple[str, ...]:
    found = []
    while names.data:
        found.append(names.vector(1).decode("ascii", "replace"))
    return tuple(found)
