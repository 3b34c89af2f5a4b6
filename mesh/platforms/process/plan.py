"""What a pod's containers are to run on this platform: address, ports, environment, folders, probes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mesh.api.pod import Container, Pod
from mesh.platforms import probes
from mesh.platforms.base import APP_PORTS_ANNOTATION, PROXY_CONTAINER, Surroundings
from mesh.platforms.process.addresses import free_port
from mesh.platforms.process.container import ContainerPlan
from mesh.platforms.process.environment import container_environment, expand, proxy_variables
from mesh.platforms.process.launcher import base_environment

_SIDECAR_PORTS = frozenset({15000, 15001, 15006, 15020, 15021, 15080, 15090})


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a mesh keeps its pods' files, and the folder that apps run in."""

    state: Path
    work: Path

    def pod(self, name: str) -> Path:
        return self.state / "pods" / name

    def log(self, pod: str, container: str) -> Path:
        return self.state / "logs" / f"{pod}.{container}.log"

    def logs(self) -> Sequence[Path]:
        return list((self.state / "logs").glob("*.log"))


class PodPlan:
    """One pod at `address`. In the mesh a declared container port is the sidecar's, so the app gets another port.

    Raises PlatformError for what does not resolve: a variable, a probe's port.
    """

    def __init__(self, pod: Pod, address: str, surroundings: Surroundings, folders: Folders) -> None:
        self._in_mesh = any(container.name == PROXY_CONTAINER for container in pod.spec.containers)
        self._surroundings = surroundings
        self._folders = folders
        self._app_ports = self._choose_ports(pod, address)
        self.pod = self._assigned(pod, address)
        self.containers = [self._plan(container) for container in pod.spec.containers]

    def _choose_ports(self, pod: Pod, address: str) -> Mapping[int, int]:
        chosen: dict[int, int] = {}
        for container in pod.spec.containers:
            for port in container.ports:
                if self._in_mesh and container.name != PROXY_CONTAINER and port.protocol == "TCP":
                    chosen[port.container_port] = free_port(address, _SIDECAR_PORTS | set(chosen.values()))
        return chosen

    def _assigned(self, pod: Pod, address: str) -> Pod:
        annotations = dict(pod.metadata.annotations)
        if self._app_ports:
            annotations[APP_PORTS_ANNOTATION] = json.dumps({str(port): to for port, to in self._app_ports.items()})
        metadata = replace(pod.metadata, annotations=annotations)
        return replace(pod, metadata=metadata, status=replace(pod.status, pod_ip=address, host_ip="127.0.0.1"))

    def _plan(self, container: Container) -> ContainerPlan:
        is_proxy = container.name == PROXY_CONTAINER
        env = container_environment(container, self.pod, self._surroundings, self._defaults(container))
        ports = {} if is_proxy else self._app_ports
        target = probes.Target.of(self.pod.status.pod_ip, container.ports, ports)
        for probe in (container.startup_probe, container.readiness_probe, container.liveness_probe):
            probes.check(probe, target)
        return ContainerPlan(
            name=container.name,
            label=f"{self.pod.name}.{container.name}",
            argv=[expand(word, env) for word in (*container.command, *container.args)],
            env=env,
            cwd=self._folders.pod(self.pod.name) if is_proxy else self._folders.work / container.working_dir,
            log=self._folders.log(self.pod.name, container.name),
            target=target,
            startup=container.startup_probe,
            readiness=container.readiness_probe,
            liveness=container.liveness_probe,
            pre_stop=container.lifecycle.pre_stop if container.lifecycle else None,
            restart=self.pod.spec.restart_policy,
            image=container.image,
        )

    def _defaults(self, container: Container) -> dict[str, str]:
        if container.name == PROXY_CONTAINER:
            return base_environment()
        proxy = proxy_variables(self.pod.status.pod_ip, self._folders.pod(self.pod.name)) if self._in_mesh else {}
        return {**base_environment(), **proxy, **self._listen_variables(container)}

    def _listen_variables(self, container: Container) -> dict[str, str]:
        """`HOST` and `PORT`, where the app must listen; also `PORT_<name or number>` for each of several ports."""
        result = {"HOST": self.pod.status.pod_ip}
        for port in reversed(container.ports):
            listens = str(self._app_ports.get(port.container_port, port.container_port))
            result[f"PORT_{(port.name or str(port.container_port)).upper().replace('-', '_')}"] = listens
            result["PORT"] = listens
        return result
