"""Pools by server name: which name a request has, and that names do not pile up."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.proxy.http.rescue import Overflow
from mesh.proxy.http1.parse import parse_request
from mesh.proxy.tls.transport_socket import ServerName
from mesh.proxy.upstream.http_options import AutoName
from mesh.proxy.upstream.named_pools import MANY, NamedPools


class Asked:
    """What the pools of one host were asked for."""

    def __init__(self, auto: AutoName, connections: int = 0) -> None:
        self.made: list[ServerName] = []
        self.connections = connections
        self.pending = 0
        make: Any = self._make
        self.pools = NamedPools(auto, make)

    def _make(self, name: ServerName) -> Asked:
        self.made.append(name)
        return self

    def request(self, caller: object) -> None: ...

    def ask(self, host: str, *lines: str) -> ServerName:
        caller: Any = type("Caller", (), {})()
        caller.head = parse_request("\r\n".join(("GET / HTTP/1.1", f"Host: {host}", *lines)).encode())
        self.pools.request(caller)
        return self.made[-1]


@pytest.mark.parametrize(
    ("auto", "host", "name"),
    [
        (AutoName(True, False), "a.test:8080", ServerName("a.test")),
        (AutoName(True, True), "a.test", ServerName("a.test", "a.test")),
        (AutoName(False, True), "a.test", ServerName("", "a.test")),
        (AutoName(True, True), "10.0.0.1:80", ServerName("", "10.0.0.1")),
        (AutoName(True, True), "[::1]:80", ServerName("", "::1")),
        (AutoName(True, False, b"x-name"), "a.test", ServerName("a.test")),
    ],
)
def test_the_name_of_a_request(auto: AutoName, host: str, name: ServerName) -> None:
    assert Asked(auto).ask(host) == name


def test_a_header_stands_over_the_host() -> None:
    assert Asked(AutoName(True, False, b"x-name")).ask("a.test", "x-name: b.test:1") == ServerName("b.test")


def test_a_name_keeps_its_pool() -> None:
    asked = Asked(AutoName(True, False))
    for host in ("a.test", "b.test", "a.test"):
        asked.ask(host)
    assert [name.sni for name in asked.made] == ["a.test", "b.test"]


def test_pools_that_have_nothing_left_are_forgotten_when_there_are_many() -> None:
    asked = Asked(AutoName(True, False))
    for number in range(MANY + 1):
        asked.ask(f"{number}.test")
    asked.ask("0.test")
    assert asked.made.count(ServerName("0.test")) == 2


def test_no_more_names_than_that_have_connections() -> None:
    asked = Asked(AutoName(True, False), connections=1)
    for number in range(MANY):
        asked.ask(f"{number}.test")
    with pytest.raises(Overflow):
        asked.ask("one-more.test")
