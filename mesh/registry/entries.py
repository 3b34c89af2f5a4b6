"""From Istio's ServiceEntry to the registry's own types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Final

from mesh.api.service_entry import Location, Resolution, ServiceEntry, ServiceEntryPort, WorkloadEntrySpec
from mesh.config.cluster_ips import free_address
from mesh.config.keys import Key
from mesh.registry.protocol import Protocol
from mesh.registry.translate import TLS_MODE
from mesh.registry.types import (
    Discovery,
    Endpoint,
    Service,
    ServicePort,
    Workload,
    WorkloadPort,
)

AUTO_ADDRESSES: Final = IPv4Network("240.240.0.0/16")
"""Istio's, of a range that no network routes: an address that only says which host a connection was meant for."""
_DISCOVERY: Final = {
    Resolution.NONE: Discovery.ORIGINAL_DESTINATION,
    Resolution.STATIC: Discovery.REGISTRY,
    Resolution.DNS: Discovery.DNS,
    Resolution.DNS_ROUND_ROBIN: Discovery.DNS_ROUND_ROBIN,
}


def to_services(entry: ServiceEntry) -> Iterator[Service]:
    """A service for each of its hosts, without addresses of our own."""
    spec = entry.spec
    ports = tuple(
        ServicePort(port.number, port.name, _protocol(port), port.target_port or port.number) for port in spec.ports
    )
    workloads = tuple(_workload(entry, number, own) for number, own in enumerate(spec.endpoints))
    for host in dict.fromkeys(spec.hosts):
        given = workloads or (_host_itself(entry, host),)
        yield Service(
            name=entry.name,
            namespace=entry.namespace,
            ports=ports,
            selector=spec.workload_selector.labels if spec.workload_selector is not None else {},
            created=entry.metadata.creation_timestamp,
            address=spec.addresses[0] if spec.addresses else "",
            outside_host=host,
            more_addresses=spec.addresses[1:],
            discovery=_DISCOVERY[spec.resolution],
            external=spec.location is Location.MESH_EXTERNAL,
            export_to=spec.export_to,
            subject_alt_names=spec.subject_alt_names,
            endpoints=tuple(_endpoint(port, own) for port in ports for own in given)
            if spec.resolution is not Resolution.NONE and spec.workload_selector is None
            else (),
        )


def with_addresses(services: Iterable[Service], known: dict[str, str]) -> Iterator[Service]:
    """Those that have no address, though a name of theirs can be asked for, with one of `AUTO_ADDRESSES`.

    `known` is who has which; it is kept up to date, so that a host keeps its address while it is there.
    """
    for service in services:
        if service.address or service.host.startswith("*") or service.discovery is Discovery.ORIGINAL_DESTINATION:
            yield service
            continue
        if service.host not in known:
            key = Key(ServiceEntry.KIND, service.namespace, service.host)
            known[service.host] = free_address(AUTO_ADDRESSES, key, known.values())
        yield replace(service, address=known[service.host])


def _protocol(port: ServiceEntryPort) -> Protocol:
    word = port.protocol.lower()
    return Protocol(word) if word else Protocol.UNSUPPORTED


def _endpoint(port: ServicePort, workload: Workload) -> Endpoint:
    named = next((own.number for own in workload.ports if own.name == port.name), None)
    assert isinstance(port.target, int)
    return Endpoint(port.number, port.target if named is None else named, workload)


def _workload(entry: ServiceEntry, number: int, own: WorkloadEntrySpec) -> Workload:
    """Its sidecar is known by Istio's label alone."""
    return Workload(
        name=f"{entry.name}-{number}",
        namespace=entry.namespace,
        owner=entry.name,
        address=own.address,
        service_account=own.service_account,
        labels=own.labels,
        ports=tuple(WorkloadPort(port, name) for name, port in own.ports.items()),
        sidecar=own.labels.get(TLS_MODE) == "istio",
        ready=True,
        locality=own.locality,
        weight=own.weight or 1,
    )


def _host_itself(entry: ServiceEntry, host: str) -> Workload:
    return Workload(entry.name, entry.namespace, entry.name, host, "", {}, (), sidecar=False, ready=True)
