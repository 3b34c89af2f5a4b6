"""ServiceEntry: Istio's ValidateServiceEntry."""

from __future__ import annotations

from mesh.api.service_entry import Resolution, ServiceEntry, ServiceEntrySpec, WorkloadEntrySpec
from mesh.config.rules.checks import (
    Place,
    check_export_to,
    check_host,
    check_labels,
    check_non_negative,
    check_port,
    is_address,
    is_host,
    is_ipv4,
)
from mesh.config.rules.gateway import PROTOCOLS

_BY_NAME = (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)


def check_service_entry(resource: ServiceEntry, at: Place) -> None:
    """`at` is the place of `spec`."""
    spec = resource.spec
    if not spec.hosts:
        at.refuse("must have at least one host")
    for index, host in enumerate(spec.hosts):
        check_host(host, at / "hosts" / index)
        if host == "*":
            (at / "hosts" / index).refuse('must not be "*": name the hosts, such as *.example.com')
    for index, address in enumerate(spec.addresses):
        if "/" in address:
            (at / "addresses" / index).refuse("ranges are not carried out by this version; name single addresses")
        elif not is_ipv4(address):
            (at / "addresses" / index).refuse(f'"{address}" is not an IPv4 address')
    _check_ports(spec, at)
    _check_resolution(spec, at)
    for index, endpoint in enumerate(spec.endpoints):
        _check_endpoint(endpoint, spec, at / "endpoints" / index)
    if spec.workload_selector is not None:
        check_labels(spec.workload_selector.labels, at / "workloadSelector" / "labels")
        if not spec.workload_selector.labels:
            (at / "workloadSelector").refuse("must have labels")
        if spec.endpoints:
            (at / "workloadSelector").refuse("only one of workloadSelector and endpoints may be set")
    check_export_to(spec.export_to, resource.namespace, at / "exportTo")


def _check_ports(spec: ServiceEntrySpec, at: Place) -> None:
    if not spec.ports:
        at.refuse("must have at least one port")
    numbers: set[int] = set()
    port_names: set[str] = set()
    for index, port in enumerate(spec.ports):
        place = at / "ports" / index
        check_port(port.number, place / "number")
        if port.target_port:
            check_port(port.target_port, place / "targetPort")
        if not port.name:
            place.refuse("must have a name")
        elif port.name in port_names:
            (place / "name").refuse(f'the port name "{port.name}" is given twice')
        if port.number in numbers:
            (place / "number").refuse(f"the port {port.number} is given twice")
        if port.protocol and port.protocol.upper() not in PROTOCOLS:
            (place / "protocol").refuse(f'"{port.protocol}" is not one of {", ".join(PROTOCOLS)}')
        numbers.add(port.number)
        port_names.add(port.name)


def _check_resolution(spec: ServiceEntrySpec, at: Place) -> None:
    place = at / "resolution"
    if spec.resolution is Resolution.NONE and spec.endpoints:
        place.refuse("with NONE there are no endpoints: use STATIC or DNS")
    if spec.resolution is Resolution.STATIC and not spec.endpoints and spec.workload_selector is None:
        place.refuse("STATIC needs endpoints or a workloadSelector")
    if spec.resolution not in _BY_NAME:
        return
    if spec.workload_selector is not None:
        place.refuse("a workloadSelector needs STATIC")
    if spec.resolution is Resolution.DNS_ROUND_ROBIN and len(spec.endpoints) > 1:
        (at / "endpoints").refuse("with DNS_ROUND_ROBIN there may be one at most")
    for index, host in enumerate(spec.hosts):
        if host.startswith("*") and not spec.endpoints:
            (at / "hosts" / index).refuse("a wildcard has no address in DNS: name endpoints, or use NONE")


def _check_endpoint(endpoint: WorkloadEntrySpec, spec: ServiceEntrySpec, at: Place) -> None:
    address = endpoint.address
    if spec.resolution is Resolution.STATIC and not is_address(address):
        (at / "address").refuse(f'"{address}" is not an IP address, which STATIC needs')
    elif spec.resolution in _BY_NAME and not is_address(address) and (not is_host(address) or "*" in address):
        (at / "address").refuse(f'"{address}" is neither a host name nor an IP address')
    known = {port.name for port in spec.ports}
    for name, number in endpoint.ports.items():
        check_port(number, at / "ports" / name)
        if name not in known:
            (at / "ports" / name).refuse(f'no port of this ServiceEntry is named "{name}"')
    check_labels(endpoint.labels, at / "labels")
    check_non_negative(endpoint.weight, at / "weight")
