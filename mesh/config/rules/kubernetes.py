"""What the Kubernetes API refuses of the kinds we run, as far as we would stumble over it later."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable, Sequence

from mesh.api.core import ConfigMap, Service
from mesh.api.fields import IntOrString
from mesh.api.kinds import Kind
from mesh.api.meta import Resource
from mesh.api.pod import Container, Deployment, Pod, PodSpec, Probe
from mesh.config.cluster_ips import HEADLESS
from mesh.config.rules.checks import (
    Place,
    check_keys,
    check_labels,
    check_non_negative,
    check_port,
    is_dns_label,
    is_dns_name,
    is_ipv4,
)

_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_NAMED = ("Service", "Namespace")


def check_metadata(resource: Resource, kind: Kind, at: Place) -> None:
    """Names, namespace and labels. `at` is the place of `metadata`."""
    meta = resource.metadata
    if kind.name in _LABEL_NAMED and not is_dns_label(meta.name):
        (at / "name").refuse(f'"{meta.name}" must be lower-case letters, digits and "-", at most 63 of them')
    elif not is_dns_name(meta.name):
        (at / "name").refuse(f'"{meta.name}" must be lower-case letters, digits, "-" and "."')
    if kind.namespaced and not is_dns_label(meta.namespace):
        (at / "namespace").refuse(f'"{meta.namespace}" is not a namespace name')
    check_labels(meta.labels, at / "labels")


def check_service(resource: Service, at: Place) -> None:
    spec = resource.spec
    if not spec.ports and spec.type != "ExternalName" and spec.cluster_ip != HEADLESS:
        at.refuse("must have at least one port")
    if spec.cluster_ip not in ("", HEADLESS) and not is_ipv4(spec.cluster_ip):
        (at / "clusterIP").refuse(f'"{spec.cluster_ip}" is not an IPv4 address; leave it out, or write None')
    check_labels(spec.selector, at / "selector")
    _check_unique([port.name for port in spec.ports], "name", at / "ports")
    _check_unique([(port.port, port.protocol) for port in spec.ports], "port", at / "ports")
    for index, port in enumerate(spec.ports):
        place = at / "ports" / index
        check_port(port.port, place / "port")
        _check_target(port.target_port, place / "targetPort")
        if port.name and not is_dns_label(port.name):
            (place / "name").refuse(f'"{port.name}" must be lower-case letters, digits and "-"')
        if not port.name and len(spec.ports) > 1:
            place.refuse("must have a name, since there are several ports")


def check_config_map(resource: ConfigMap, at: Place) -> None:
    """`at` is the place of `spec`, which a ConfigMap has none of."""
    top = Place(at.problems)
    check_keys(resource.data, top / "data")
    check_keys(resource.binary_data, top / "binaryData")
    for name, text in resource.binary_data.items():
        if name in resource.data:
            (top / "binaryData" / name).refuse("is in data too")
        try:
            b64decode(text, validate=True)
        except binascii.Error:
            (top / "binaryData" / name).refuse("is not base64")


def check_deployment(resource: Deployment, at: Place) -> None:
    spec = resource.spec
    check_non_negative(spec.replicas, at / "replicas")
    selector, labels = spec.selector, spec.template.metadata.labels
    if not selector.match_labels and not selector.match_expressions:
        (at / "selector").refuse("must select something")
    missing = [key for key, value in selector.match_labels.items() if labels.get(key) != value]
    if missing:
        (at / "template" / "metadata" / "labels").refuse(f"must match the selector's {', '.join(missing)}")
    check_pod_spec(spec.template.spec, at / "template" / "spec")


def check_pod(resource: Pod, at: Place) -> None:
    check_pod_spec(resource.spec, at)


def check_pod_spec(spec: PodSpec, at: Place) -> None:
    if not spec.containers:
        at.refuse("must have at least one container")
    check_non_negative(spec.termination_grace_period_seconds, at / "terminationGracePeriodSeconds")
    _check_unique([container.name for container in spec.containers], "name", at / "containers")
    _check_volumes(spec, at)
    apps = {container.name for container in spec.containers}
    _check_unique([container.name for container in spec.init_containers], "name", at / "initContainers")
    for index, container in enumerate(spec.containers):
        _check_container(container, at / "containers" / index)
    for index, container in enumerate(spec.init_containers):
        place = at / "initContainers" / index
        _check_container(container, place)
        if container.name in apps:
            (place / "name").refuse(f"{container.name} is the name of another container")
        if container.restart_policy != "Always":
            _check_runs_once(container, place)


def _check_volumes(spec: PodSpec, at: Place) -> None:
    names = [str(volume.get("name", "")) for volume in spec.volumes]
    _check_unique(names, "name", at / "volumes")
    for index, volume in enumerate(spec.volumes):
        place = at / "volumes" / index
        if not is_dns_label(names[index]):
            (place / "name").refuse(f'"{names[index]}" must be lower-case letters, digits and "-"')
        if len(volume.keys() - {"name"}) > 1:
            place.refuse("may not specify more than 1 volume type")
        for kind in ("configMap", "secret"):
            for number, item in enumerate((volume.get(kind) or {}).get("items") or ()):
                if not _is_inside(item.get("path", "")):
                    (place / kind / "items" / number / "path").refuse("must be a relative path without ..")
    for field, containers in (("initContainers", spec.init_containers), ("containers", spec.containers)):
        for index, container in enumerate(containers):
            _check_mounts(container, names, at / field / index / "volumeMounts")


def _check_mounts(container: Container, volumes: Sequence[str], at: Place) -> None:
    _check_unique([mount.mount_path for mount in container.volume_mounts], "mountPath", at)
    for index, mount in enumerate(container.volume_mounts):
        if mount.name not in volumes:
            (at / index / "name").refuse(f'there is no volume "{mount.name}"')
        if not mount.mount_path.startswith("/"):
            (at / index / "mountPath").refuse(f'"{mount.mount_path}" must be an absolute path')
        if mount.sub_path and not _is_inside(mount.sub_path):
            (at / index / "subPath").refuse("must be a relative path without ..")


def _is_inside(path: str) -> bool:
    return bool(path) and not path.startswith("/") and ".." not in path.split("/")


def _check_runs_once(container: Container, at: Place) -> None:
    for field, given in (
        ("lifecycle", container.lifecycle),
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
    ):
        if given is not None:
            (at / field).refuse("may not be set for init containers without restartPolicy: Always")


def _check_container(container: Container, at: Place) -> None:
    if not is_dns_label(container.name):
        (at / "name").refuse(f'"{container.name}" must be lower-case letters, digits and "-"')
    for index, variable in enumerate(container.env):
        if not _ENV_NAME.fullmatch(variable.name):
            (at / "env" / index / "name").refuse(f'"{variable.name}" is not a name of an environment variable')
        if variable.value and variable.value_from is not None:
            (at / "env" / index).refuse("only one of value and valueFrom may be set")
    for index, source in enumerate(container.env_from):
        if source.prefix and not _ENV_NAME.fullmatch(source.prefix):
            (at / "envFrom" / index / "prefix").refuse(f'"{source.prefix}" is not how a variable\'s name begins')
    _check_unique([port.name for port in container.ports], "name", at / "ports")
    for index, port in enumerate(container.ports):
        check_port(port.container_port, at / "ports" / index / "containerPort")
        if port.host_port:
            check_port(port.host_port, at / "ports" / index / "hostPort")
        if port.name and not (_PORT_NAME.fullmatch(port.name) and len(port.name) <= 15):
            (at / "ports" / index / "name").refuse(f'"{port.name}" must be at most 15 lower-case letters and digits')
    for field, probe in (
        ("readinessProbe", container.readiness_probe),
        ("livenessProbe", container.liveness_probe),
        ("startupProbe", container.startup_probe),
    ):
        if probe is not None:
            _check_probe(probe, container, at / field)


def _check_probe(probe: Probe, container: Container, at: Place) -> None:
    if not (probe.http_get or probe.tcp_socket or probe.exec or probe.grpc):
        at.refuse("must have one of httpGet, tcpSocket, exec or grpc")
    if probe.exec is not None and not probe.exec.command:
        (at / "exec").refuse("must have a command")
    for field, action in (("httpGet", probe.http_get), ("tcpSocket", probe.tcp_socket)):
        if action is not None:
            _check_target(action.port, at / field / "port", [port.name for port in container.ports])
    check_non_negative(probe.initial_delay_seconds, at / "initialDelaySeconds")
    for field, value in (
        ("periodSeconds", probe.period_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ):
        if value < 1:
            (at / field).refuse(f"must be at least 1, not {value}")


def _check_target(port: IntOrString | None, at: Place, names: Sequence[str] | None = None) -> None:
    if isinstance(port, int):
        check_port(port, at)
    elif port is not None and not _PORT_NAME.fullmatch(port):
        at.refuse(f'"{port}" is not a port name')
    elif port is not None and names is not None and port not in names:
        at.refuse(f'no port of this container is named "{port}"')


def _check_unique(values: Iterable[object], field: str, at: Place) -> None:
    seen: set[object] = set()
    for index, value in enumerate(values):
        if value and value in seen:
            shown = value[0] if isinstance(value, tuple) else value
            (at / index / field).refuse(f"{shown} is given twice")
        seen.add(value)
