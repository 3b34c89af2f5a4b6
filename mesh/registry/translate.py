"""From Kubernetes' Service and Pod to the registry's own types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from mesh.api import core
from mesh.api.pod import Container, Pod
from mesh.config.cluster_ips import HEADLESS, cluster_ip_of
from mesh.registry.protocol import protocol_of
from mesh.registry.types import Service, ServicePort, Workload, WorkloadPort

TLS_MODE: Final = "security.istio.io/tlsMode"
"""Istio's label, `istio` where a sidecar takes mutual TLS. A gateway has none: what it takes, its Gateways say."""
APP_PORTS: Final = "meshdrill.dev/app-ports"
WORKLOAD_NAME: Final = "service.istio.io/workload-name"
TEMPLATE_HASH: Final = "pod-template-hash"
LOCALITY: Final = "istio-locality"
"""Istio's label for `region.zone.subzone` of a workload (dots, since labels allow no slash)."""


class BadAnnotationError(ValueError):
    """A pod's annotation cannot be read. The text names pod, annotation and what is wrong."""


def to_service(service: core.Service) -> Service | None:
    """The mesh's view of a Service; None for ExternalName, which has no endpoints of its own."""
    spec = service.spec
    if spec.type == "ExternalName":
        return None
    ports = tuple(
        ServicePort(
            port.port,
            port.name,
            protocol_of(port.name, port.app_protocol, port.protocol, port.port),
            port.port if port.target_port is None else port.target_port,
        )
        for port in spec.ports
    )
    created = service.metadata.creation_timestamp
    headless = spec.cluster_ip == HEADLESS
    address = cluster_ip_of(service)
    return Service(service.name, service.namespace, ports, spec.selector, headless, created, address)


def to_workload(pod: Pod) -> Workload | None:
    """The mesh's view of a Pod; None while it has no address and after it has ended."""
    if not pod.status.pod_ip or pod.status.phase in {"Succeeded", "Failed"}:
        return None
    labels = pod.metadata.labels
    return Workload(
        name=pod.name,
        namespace=pod.namespace,
        owner=owner_of(pod),
        address=pod.status.pod_ip,
        service_account=pod.spec.service_account_name,
        labels=labels,
        ports=tuple(port for container in pod.spec.serving_containers for port in _ports(container)),
        sidecar=labels.get(TLS_MODE) == "istio",
        ready=pod.status.ready,
        locality=labels.get(LOCALITY, "").replace(".", "/"),
        app_ports=_app_ports(pod),
    )


def owner_of(pod: Pod) -> str:
    """The Deployment's name: what stands before the template hash in the pod's name, as Istio derives it."""
    named = pod.metadata.labels.get(WORKLOAD_NAME)
    if named:
        return named
    template_hash = pod.metadata.labels.get(TEMPLATE_HASH)
    owner = pod.name.rpartition("-")[0]
    if template_hash and owner.endswith(f"-{template_hash}"):
        return owner.removesuffix(f"-{template_hash}")
    return pod.name


def _ports(container: Container) -> tuple[WorkloadPort, ...]:
    return tuple(
        WorkloadPort(port.container_port, port.name, port.host_ip, port.host_port or 0)
        for port in container.ports
        if port.protocol == "TCP"
    )


def _app_ports(pod: Pod) -> Mapping[int, int] | None:
    text = pod.metadata.annotations.get(APP_PORTS)
    if text is None:
        return None
    try:
        return {int(port): int(own) for port, own in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise BadAnnotationError(
            f'pod {pod.namespace}/{pod.name}: annotation {APP_PORTS} is "{text}"; '
            'it wants a JSON object of container port to listening port, such as {"9080": 41233}'
        ) from error
