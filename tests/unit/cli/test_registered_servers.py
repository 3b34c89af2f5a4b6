"""What `meshdrill register` and `deregister` make of their words."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.cli.entries import is_address, named_ports, registered, without
from mesh.cli.errors import Failure
from mesh.config.decode import decode_object
from mesh.config.validate import require_valid

PORTS = named_ports(["3306"])


def entry(*addresses: str) -> dict[str, Any]:
    made: dict[str, Any] | None = None
    for address in addresses:
        made = registered(made, "mysqldb", "default", address, PORTS)
    assert made is not None
    return made


def addresses(manifest: dict[str, Any]) -> list[str]:
    return [own["address"] for own in manifest["spec"]["endpoints"]]


def test_a_server_becomes_a_service_entry_that_the_mesh_takes() -> None:
    made = entry("10.0.0.1")
    require_valid(decode_object(made))
    assert made["spec"]["hosts"] == ["mysqldb.default.svc.cluster.local"]
    assert made["spec"]["ports"] == [{"number": 3306, "name": "tcp-3306", "protocol": "TCP"}]


def test_more_servers_are_more_endpoints_and_none_is_there_twice() -> None:
    assert addresses(entry("10.0.0.1", "10.0.0.2", "10.0.0.1")) == ["10.0.0.2", "10.0.0.1"]


def test_the_last_server_takes_the_entry_along() -> None:
    left = without(entry("10.0.0.1", "10.0.0.2"), "10.0.0.1")
    assert left is not None
    assert addresses(left) == ["10.0.0.2"]
    assert without(left, "10.0.0.2") is None
    with pytest.raises(Failure, match=r"ServiceEntry mysqldb has no endpoint 10\.0\.0\.9"):
        without(left, "10.0.0.9")


@pytest.mark.parametrize(
    ("word", "name", "protocol"),
    [
        ("80", "http-80", "HTTP"),
        ("443", "https-443", "HTTPS"),
        ("6379", "tcp-6379", "TCP"),
        ("mysql:3306", "mysql-3306", "MYSQL"),
        ("grpc-api:9090", "grpc-api-9090", "GRPC"),
    ],
)
def test_a_port_says_its_protocol(word: str, name: str, protocol: str) -> None:
    (port,) = named_ports([word])
    assert (port["name"], port["protocol"]) == (name, protocol)
    made = registered(None, "x", "default", "10.0.0.1", [port])
    require_valid(decode_object(made))


@pytest.mark.parametrize("words", [["0"], ["65536"], ["http"], ["x:80"], ["udp:53"], ["http:"], ["80", "http:80"]])
def test_what_is_no_port_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        named_ports(words)


def test_endpoints_have_the_ports_of_their_entry() -> None:
    with pytest.raises(Failure, match="has the ports 3306"):
        registered(entry("10.0.0.1"), "mysqldb", "default", "10.0.0.2", named_ports(["3307"]))


def test_an_entry_of_another_kind_is_left_alone() -> None:
    by_name = {"metadata": {"name": "api"}, "spec": {"resolution": "DNS", "ports": PORTS}}
    with pytest.raises(Failure, match="was not registered"):
        registered(by_name, "api", "default", "10.0.0.1", PORTS)


@pytest.mark.parametrize(("text", "fits"), [("10.0.0.1", True), ("mysqldb", False), ("::1", False), ("10.0.0", False)])
def test_an_address_is_ipv4(text: str, fits: bool) -> None:
    assert is_address(text) is fits
