"""The environment of a container, as the kubelet makes it. Pure: no I/O, and nothing of our own environment unasked."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from mesh.api.core import Service
from mesh.api.pod import Container, EnvFromSource, EnvVar, KeyRef, Pod
from mesh.platforms.base import PlatformError, Surroundings

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
        result |= _from_config_map(source, surroundings, container.name)
    for variable in container.env:
        value = _value(variable, pod, surroundings, result)
        if value is not None:
            result[variable.name] = value
    return result


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
    if source.config_map_key_ref is not None:
        return _config_map_value(source.config_map_key_ref, surroundings, variable.name)
    raise PlatformError(
        f'variable {variable.name}: Secrets are not handed to apps here; use a ConfigMap, or give the value in "value"'
    )


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
    }
    if path not in plain:
        raise PlatformError(f'fieldPath "{path}" is not a field of a pod; there are {", ".join(plain)}')
    return plain[path]


def _config_map_value(ref: KeyRef, surroundings: Surroundings, variable: str) -> str | None:
    config_map = surroundings.config_maps.get(ref.name)
    if config_map is not None and ref.key in config_map.data:
        return config_map.data[ref.key]
    if ref.optional:
        return None
    what = f'has no key "{ref.key}"' if config_map is not None else "does not exist"
    raise PlatformError(f'variable {variable}: ConfigMap "{ref.name}" {what}')


def _from_config_map(source: EnvFromSource, surroundings: Surroundings, container: str) -> dict[str, str]:
    ref = source.config_map_ref
    if ref is None:
        raise PlatformError(f"container {container}: envFrom: Secrets are not handed to apps here; use a ConfigMap")
    config_map = surroundings.config_maps.get(ref.name)
    if config_map is not None:
        return {source.prefix + key: value for key, value in config_map.data.items()}
    if ref.optional:
        return {}
    raise PlatformError(f'container {container}: envFrom names ConfigMap "{ref.name}", which does not exist')
