"""What a pod's containers are to run on this platform: address, ports, environment, folders, probes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from mesh.api.core import Service
from mesh.api.pod import Container, Pod
from mesh.platforms import probes
from mesh.platforms.base import APP_PORTS_ANNOTATION, PROXY_CONTAINER, PlatformError, Surroundings
from mesh.platforms.process.addresses import free_port
from mesh.platforms.process.container import ContainerPlan, Enclosure
from mesh.platforms.process.environment import container_environment, expand, loopback_host, proxy_variables
from mesh.platforms.process.launcher import base_environment
from mesh.platforms.process.volume_folder import VOLUMES
from mesh.platforms.process.volumes import Mount

_SIDECAR_PORTS = frozenset({15000, 15001, 15006, 15020, 15021, 15080, 15090})


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a mesh keeps its pods' files, and the folder that apps run in."""

    state: Path
    work: Path

    def pod(self, name: str) -> Path:
        return self.state / "pods" / name

    def volumes(self, pod: str) -> Path:
        return self.state / VOLUMES / pod

    def log(self, pod: str, container: str) -> Path:
        return self.state / "logs" / f"{pod}.{container}.log"

    def logs(self) -> Sequence[Path]:
        return list((self.state / "logs").glob("*.log"))


class Habitat(Protocol):
    """Where one pod lives: what differs between platforms that run containers as processes of this machine."""

    address: str
    host_address: str

    @property
    def dial(self) -> probes.Dial | None:
        """How probes connect, where not from this process's own network."""

    @property
    def listen_address(self) -> str:
        """Where an app listens that asks for `HOST`."""

    def app_ports(self, pod: Pod, *, in_mesh: bool) -> Mapping[int, int]:
        """The ports at which the app listens, by declared port, where the two differ."""

    def annotations(self) -> Mapping[str, str]: ...

    def variables(self, folder: Path) -> Mapping[str, str]:
        """What an app in the mesh needs to go through its sidecar. `folder` is where the pod's agent writes."""

    def service_host(self, service: Service, pod_ip: str) -> str: ...

    def mounts(self, container: Container) -> Sequence[Mount]:
        """What it sees of the pod's volumes. Raises PlatformError."""

    def enclosure(self, container: Container, cwd: Path) -> Enclosure | None: ...


class LoopbackHabitat:
    """An address on loopback, beside all the others. In the mesh a declared container port is the sidecar's, so the app
    gets another port."""

    host_address = "127.0.0.1"
    dial = None

    def __init__(self, address: str) -> None:
        self.address = address

    @property
    def listen_address(self) -> str:
        return self.address

    def app_ports(self, pod: Pod, *, in_mesh: bool) -> Mapping[int, int]:
        chosen: dict[int, int] = {}
        for container in pod.spec.containers:
            for port in container.ports:
                if in_mesh and container.name != PROXY_CONTAINER and port.protocol == "TCP":
                    chosen[port.container_port] = free_port(self.address, _SIDECAR_PORTS | set(chosen.values()))
        return chosen

    def annotations(self) -> Mapping[str, str]:
        return {}

    def variables(self, folder: Path) -> Mapping[str, str]:
        return proxy_variables(self.address, folder)

    def service_host(self, service: Service, pod_ip: str) -> str:
        return loopback_host(service, pod_ip)

    def mounts(self, container: Container) -> Sequence[Mount]:
        return ()

    def enclosure(self, container: Container, cwd: Path) -> Enclosure | None:
        return None


class PodPlan:
    """One pod in its habitat. Raises PlatformError for what does not resolve: a variable, a probe's port."""

    def __init__(
        self,
        pod: Pod,
        habitat: Habitat,
        surroundings: Surroundings,
        folders: Folders,
        base: Mapping[str, str] | None = None,
    ) -> None:
        """`base` is the environment that each container's is laid over; by default what an image would give."""
        self._base = base_environment() if base is None else base
        self._in_mesh = any(container.name == PROXY_CONTAINER for container in pod.spec.containers)
        self._surroundings = surroundings
        self._folders = folders
        self._habitat = habitat
        self._app_ports = habitat.app_ports(pod, in_mesh=self._in_mesh)
        self.pod = self._assigned(pod)
        self.containers = [self._plan(container) for container in pod.spec.all_containers]

    def _assigned(self, pod: Pod) -> Pod:
        annotations = {**pod.metadata.annotations, **self._habitat.annotations()}
        if self._app_ports:
            annotations[APP_PORTS_ANNOTATION] = json.dumps({str(port): to for port, to in self._app_ports.items()})
        metadata = replace(pod.metadata, annotations=annotations)
        status = replace(pod.status, pod_ip=self._habitat.address, host_ip=self._habitat.host_address)
        return replace(pod, metadata=metadata, status=status)

    def _plan(self, container: Container) -> ContainerPlan:
        is_proxy = container.name == PROXY_CONTAINER
        spec = self.pod.spec
        is_init = container in spec.init_containers
        service_host = self._habitat.service_host
        defaults = self._defaults(container, is_init=is_init)
        env = container_environment(container, self.pod, self._surroundings, defaults, service_host)
        ports = {} if is_proxy else self._app_ports
        argv = [expand(word, env) for word in (*container.command, *container.args)]
        if any("\0" in word for word in argv):
            raise PlatformError(f'container "{container.name}": no command can have a NUL character')
        target = probes.Target.of(self.pod.status.pod_ip, container.ports, ports, self._habitat.dial)
        cwd = self._folders.pod(self.pod.name) if is_proxy else self._folders.work / container.working_dir
        for probe in (container.startup_probe, container.readiness_probe, container.liveness_probe):
            probes.check(probe, target)
        return ContainerPlan(
            name=container.name,
            label=f"{self.pod.name}.{container.name}",
            argv=argv,
            env=env,
            cwd=cwd,
            log=self._folders.log(self.pod.name, container.name),
            target=target,
            startup=container.startup_probe,
            readiness=container.readiness_probe,
            liveness=container.liveness_probe,
            pre_stop=container.lifecycle.pre_stop if container.lifecycle else None,
            restart="OnFailure" if is_init and spec.restart_policy == "Always" else spec.restart_policy,
            image=container.image,
            is_init=is_init,
            pending="PodInitializing" if spec.init_containers else "ContainerCreating",
            mounts=self._habitat.mounts(container),
            enclosure=self._habitat.enclosure(container, cwd),
        )

    def _defaults(self, container: Container, *, is_init: bool) -> dict[str, str]:
        """An init container has no way through the sidecar, which starts after it."""
        if container.name == PROXY_CONTAINER:
            return dict(self._base)
        proxy = self._habitat.variables(self._folders.pod(self.pod.name)) if self._in_mesh and not is_init else {}
        return {**self._base, **proxy, **self._listen_variables(container)}

    def _listen_variables(self, container: Container) -> dict[str, str]:
        """`HOST` and `PORT`, where the app must listen; also `PORT_<name or number>` for each of several ports."""
        result = {"HOST": self._habitat.listen_address}
        for port in reversed(container.ports):
            listens = str(self._app_ports.get(port.container_port, port.container_port))
            result[f"PORT_{(port.name or str(port.container_port)).upper().replace('-', '_')}"] = listens
            result["PORT"] = listens
        return result
