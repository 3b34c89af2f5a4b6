"""Which ports of a workload its sidecar listens on, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mesh.api.peer_authentication import MutualTLSMode
from mesh.registry.protocol import Protocol, protocol_of
from mesh.registry.types import Service, ServicePort, Workload
from mesh.snapshot.snapshot import MeshSnapshot
from mesh.xds.compile.guard import NO_GUARD, Guard, guard_of
from mesh.xds.compile.names import RESERVED_PORTS
from mesh.xds.compile.policy import Policy, effective

_LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class InboundPort:
    """A container port behind the sidecar.

    `app` is where the app itself listens. `services` select the workload by this port, the oldest, which decides the
    protocol, first. `host_addresses` are further addresses of the node (`hostPort`), `guard` the workload's policies.
    """

    number: int
    app: tuple[str, int]
    protocol: Protocol
    services: tuple[Service, ...]
    mode: MutualTLSMode
    policy: Policy
    host_addresses: tuple[tuple[str, int], ...]
    guard: Guard = NO_GUARD

    @property
    def aliases(self) -> Mapping[int, tuple[int, ...]]:
        """The node's ports that lead here too: whatever a policy says of the port is meant for them."""
        return port_aliases(self.number, self.host_addresses)


def inbound_ports(snapshot: MeshSnapshot, workload: Workload) -> tuple[InboundPort, ...]:
    """The workload's container ports, those its services lead to and those with mutual TLS of their own; ascending."""
    services = snapshot.selecting.get(workload.key, ())
    numbers = {port.number for port in workload.ports} | {number for _, _, number in _targets(services, workload)}
    numbers |= snapshot.peer_authentication.ports(workload)
    guard = guard_of(snapshot, workload)
    return tuple(
        _inbound_port(snapshot, workload, number, app, guard)
        for number in sorted(numbers - RESERVED_PORTS)
        if (app := _app_address(workload, number)) is not None
    )


def host_addresses(workload: Workload, number: int) -> tuple[tuple[str, int], ...]:
    """Where the node should answer for a container port. Only loopback, unless the pod names another address."""
    return tuple(
        (port.host_ip or _LOOPBACK, port.host_port)
        for port in workload.ports
        if port.number == number and port.host_port
    )


def port_aliases(number: int, hosts: tuple[tuple[str, int], ...]) -> Mapping[int, tuple[int, ...]]:
    """The numbers of `hosts` that a connection to container port `number` may have come to."""
    return {number: tuple(other for _, other in hosts)} if hosts else {}


def _inbound_port(
    snapshot: MeshSnapshot, workload: Workload, number: int, app: tuple[str, int], guard: Guard
) -> InboundPort:
    services = snapshot.selecting.get(workload.key, ())
    leading = [(service, port) for service, port, target in _targets(services, workload) if target == number]
    if leading:
        service, service_port = leading[0]
        protocol = service_port.protocol
        rule = snapshot.destination_rules.lookup(service, workload.namespace)
        # Istio's server side carries out the client policy's connection pool and nothing else of it.
        policy = Policy(connection_pool=effective(rule, None, service_port.number).connection_pool)
    else:
        own = next((port.name for port in workload.ports if port.number == number), "")
        protocol, policy = protocol_of(own, number=number), Policy()
    return InboundPort(
        number,
        app,
        protocol,
        tuple({service.host: service for service, _ in leading}.values()),
        snapshot.peer_authentication.mode(workload, number),
        policy,
        host_addresses(workload, number),
        guard,
    )


def _targets(services: tuple[Service, ...], workload: Workload) -> Iterator[tuple[Service, ServicePort, int]]:
    for service in services:
        for port in service.ports:
            target = workload.target(port)
            if target is not None and port.protocol is not Protocol.UDP:
                yield service, port, target


def _app_address(workload: Workload, number: int) -> tuple[str, int] | None:
    """None for a port the platform has no app for: forwarding to the port itself would come back to the sidecar."""
    if workload.app_ports is None:
        return _LOOPBACK, number
    own = workload.app_ports.get(number)
    return None if own is None else (workload.address, own)
