"""The ServiceEntry that stands for servers which were registered by hand. Pure."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from mesh.cli.errors import Failure
from mesh.client.types import Manifest
from mesh.registry.protocol import Protocol, protocol_of
from mesh.registry.types import service_host

_BY_NUMBER = {80: "http", 443: "https"}  # as istioctl named them


def is_address(text: str) -> bool:
    """Whether it is an IPv4 address, as those of pods are."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def named_ports(words: Sequence[str]) -> list[Manifest]:
    """`3306` or `http:8080` as ports of a ServiceEntry. Raises ValueError with a text for the user."""
    ports = [_port(word) for word in words]
    if len({port["number"] for port in ports}) < len(ports):
        raise ValueError("a port is given twice")
    return ports


def _port(word: str) -> Manifest:
    said, _, digits = word.rpartition(":")
    if not digits.isascii() or not digits.isdigit() or not 0 < int(digits) < 65536:
        raise ValueError(f'"{word}" is not PORT or PROTOCOL:PORT, such as 3306 or http:8080')
    number = int(digits)
    name = said or _BY_NUMBER.get(number, "tcp")
    protocol = protocol_of(name)
    if protocol in (Protocol.UNSUPPORTED, Protocol.UDP):
        known = ", ".join(own.value for own in Protocol if own not in (Protocol.UNSUPPORTED, Protocol.UDP))
        raise ValueError(f'"{name}" of "{word}" names no protocol; there are {known}')
    return {"number": number, "name": f"{name}-{number}", "protocol": protocol.value.upper()}


def registered(
    present: Manifest | None, name: str, namespace: str, address: str, ports: Sequence[Manifest]
) -> Manifest:
    """`present`, or a new entry, with the address as an endpoint. Raises Failure where they do not fit."""
    if present is None:
        return _entry(name, namespace, address, ports)
    spec: Mapping[str, Any] = present["spec"]
    if spec.get("resolution") != "STATIC" or spec.get("workloadSelector"):
        raise Failure(f"ServiceEntry {name} was not registered: its endpoints are not addresses of its own")
    if list(spec["ports"]) != list(ports):
        there = " ".join(str(port["number"]) for port in spec["ports"])
        raise Failure(
            f"ServiceEntry {name} has the ports {there}, and all its endpoints have the same; deregister first"
        )
    endpoints = [own for own in spec["endpoints"] if own["address"] != address]
    return {**present, "spec": {**spec, "endpoints": [*endpoints, {"address": address}]}}


def without(present: Manifest, address: str) -> Manifest | None:
    """The entry without that endpoint, None where it was the only one. Raises Failure where there is no such one."""
    spec: Mapping[str, Any] = present["spec"]
    endpoints = [own for own in spec.get("endpoints", []) if own["address"] != address]
    if len(endpoints) == len(spec.get("endpoints", [])):
        raise Failure(f"ServiceEntry {present['metadata']['name']} has no endpoint {address}")
    return {**present, "spec": {**spec, "endpoints": endpoints}} if endpoints else None


def _entry(name: str, namespace: str, address: str, ports: Sequence[Manifest]) -> Manifest:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "hosts": [service_host(name, namespace)],
            "ports": list(ports),
            "location": "MESH_EXTERNAL",
            "resolution": "STATIC",
            "endpoints": [{"address": address}],
        },
    }
