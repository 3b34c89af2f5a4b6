"""The environment of a container, as the kubelet makes it. Pure: no I/O, and nothing of our own environment unasked."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mesh.api.core import Service
from mesh.api.pod import Container, EnvVar, Pod
from mesh.platforms.base import PlatformError, Surroundings
from mesh.platforms.process.references import all_values, key_value

OUTBOUND_PORT = 15080
NO_PROXY = "localhost,127.0.0.1,::1"

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_HTTP = ("http", "http2", "grpc", "grpc-web")


def container_environment(
    container: Container,
    pod: Pod,
    surroundings: Surroundings,
    defaults: Mapping[str, str],
    service_host: Callable[[Service, str], str],
) -> dict[str, str]:
    """`defaults`, the Service variables, `envFrom` and `env`, each over the one before it. `service_host` says at which
    host a pod, given by its address, finds a service.

    Raises PlatformError for a reference that does not resolve.
    """
    address = pod.status.pod_ip
    variables = service_variables(surroundings.services, lambda service: service_host(service, address))
    result = {**variables, **defaults}
    for source in container.env_from:
        with _told_of(f'container "{container.name}"'):
            result |= all_values(source, surroundings)
    for variable in container.env:
        with _told_of(f"variable {variable.name}"):
            value = _value(variable, pod, surroundings, result)
        if value is not None:
            result[variable.name] = value
    for name, value in result.items():
        if "\0" in value:
            raise PlatformError(f'container "{container.name}": variable {name} has a NUL character')
    return result


@contextmanager
def _told_of(what: str) -> Iterator[None]:
    try:
        yield
    except PlatformError as error:
        raise PlatformError(f"{what}: {error}") from error


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Kubernetes' `$(NAME)`; `$$` stands for `$`, and an unknown name stays as it is written."""

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return _REFERENCE.sub(replacement, text)


def proxy_variables(pod_ip: str, folder: Path) -> dict[str, str]:
    """What makes HTTP clients go through the pod's sidecar, and gRPC's `xds:///` the pod's.

    Both cases: curl reads one, other clients the other. `folder` is where the pod's agent writes.
    """
    proxy = f"http://{pod_ip}:{OUTBOUND_PORT}"
    variables = {"http_proxy": proxy, "HTTP_PROXY": proxy, "no_proxy": NO_PROXY, "NO_PROXY": NO_PROXY}
    return {**variables, "GRPC_XDS_BOOTSTRAP": str(folder / "grpc-bootstrap.json")}


def loopback_host(service: Service, pod_ip: str) -> str:
    """There are no cluster addresses on loopback. An HTTP service is reached by its name through the proxy variables;
    a TCP service at the pod's own address, where the sidecar listens for it."""
    is_http = any(_is_http(port.name, port.app_protocol) for port in service.spec.ports)
    return full_name(service) if is_http else pod_ip


def full_name(service: Service) -> str:
    return f"{service.name}.{service.namespace}.svc.cluster.local"


def service_variables(services: Iterable[Service], host_of: Callable[[Service], str]) -> dict[str, str]:
    """Kubernetes' `<SERVICE>_SERVICE_HOST`, `_PORT` and the link variables of Docker."""
    result: dict[str, str] = {}
    for service in services:
        if service.spec.ports:
            result |= _links(service, host_of(service))
    return result


def _links(service: Service, host: str) -> dict[str, str]:
    prefix = service.name.upper().replace("-", "_")
    first = service.spec.ports[0]
    result = {f"{prefix}_SERVICE_HOST": host, f"{prefix}_SERVICE_PORT": str(first.port)}
    result[f"{prefix}_PORT"] = f"{first.protocol.lower()}://{host}:{first.port}"
    for port in service.spec.ports:
        if port.name:
            result[f"{prefix}_SERVICE_PORT_{port.name.upper().replace('-', '_')}"] = str(port.port)
        link = f"{prefix}_PORT_{port.port}_{port.protocol}"
        result |= {
            link: f"{port.protocol.lower()}://{host}:{port.port}",
            f"{link}_PROTO": port.protocol.lower(),
            f"{link}_PORT": str(port.port),
            f"{link}_ADDR": host,
        }
    return result


def _is_http(name: str, app_protocol: str | None) -> bool:
    return (app_protocol or name.partition("-")[0]).lower() in _HTTP


def _value(variable: EnvVar, pod: Pod, surroundings: Surroundings, so_far: Mapping[str, str]) -> str | None:
    source = variable.value_from
    if source is None:
        return expand(variable.value, so_far)
    if source.field_ref is not None:
        return field_value(source.field_ref.field_path, pod)
    return key_value(source, surroundings, pod.namespace)


def field_value(path: str, pod: Pod) -> str:
    """The downward API's field of a pod. Raises PlatformError for one that there is not."""
    if match := _SUBSCRIPT.fullmatch(path):
        table = pod.metadata.labels if match[1] == "labels" else pod.metadata.annotations
        return table.get(match[2], "")
    plain = {
        "metadata.name": pod.name,
        "metadata.namespace": pod.namespace,
        "metadata.uid": pod.metadata.uid,
        "spec.nodeName": "localhost",
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.podIP": pod.status.pod_ip,
        "status.podIPs": pod.status.pod_ip,
        "status.hostIP": pod.status.host_ip,
        "status.hostIPs": pod.status.host_ip,
    }
    if path not in plain:
        raise PlatformError(f'fieldPath "{path}" is not a field of a pod; there are {", ".join(plain)}')
    return plain[path]
