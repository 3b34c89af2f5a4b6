"""Ports of Services: how they are named, and whether Gateways reach them."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.config.analyze.message import (
    GATEWAY_PORT_NOT_ON_SERVICE,
    PORT_NAME_NOT_UNDER_CONVENTION,
    Message,
    about,
)
from mesh.config.analyze.view import View, matches

PROTOCOLS = (
    "grpc-web", "grpc", "http2", "http", "https", "mongo", "mysql", "redis", "tcp", "tls", "udp",
)  # fmt: skip


def port_names(view: View) -> Iterator[Message]:
    """IST0118: a port whose name does not say its protocol is treated as plain TCP."""
    for found in view.services.values():
        for index, port in enumerate(found.resource.spec.ports):
            said = any(port.name.lower() == word or port.name.lower().startswith(f"{word}-") for word in PROTOCOLS)
            if not said and not port.app_protocol and port.protocol == "TCP":
                text = f"Port name {port.name} (port: {port.port}, targetPort: {port.target_port or port.port}) "
                text += "doesn't follow the naming convention of Istio port."
                yield about(found.manifest, ("spec", "ports", index), PORT_NAME_NOT_UNDER_CONVENTION, text)


def gateway_ports(view: View) -> Iterator[Message]:
    """IST0162: a Gateway's port that no Service of its workloads has, neither as its port nor as where that leads.

    Istio warns of the Service's own port as well, though its gateway maps that onto the target port, as ours does.
    """
    for found in view.gateways.values():
        selected = [work for work in view.workloads if matches(found.resource.spec.selector, work.labels)]
        services = [
            service.resource
            for service in view.services.values()
            if service.resource.spec.selector
            and any(
                work.namespace == service.resource.namespace and matches(service.resource.spec.selector, work.labels)
                for work in selected
            )
        ]
        ports = [port for service in services for port in service.spec.ports]
        targets = {number for port in ports for number in (port.port, port.target_port) if number}
        named = {
            port.container_port
            for work in selected
            for container in work.containers
            for port in container.ports
            if port.name and port.name in targets
        }
        for index, server in enumerate(found.resource.spec.servers):
            if services and server.port is not None and server.port.number not in targets | named:
                text = f"The gateway is listening on a target port (port {server.port.number}) that is not defined "
                text += "in the Service associated with its workload instances"
                yield about(
                    found.manifest, ("spec", "servers", index, "port", "number"), GATEWAY_PORT_NOT_ON_SERVICE, text
                )
