"""One pod's place in the engine: what its containers see of the mesh, and its ports on the host."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path

from mesh.api.core import Service
from mesh.api.pod import Container, Pod
from mesh.client.types import HOST_PORTS_ANNOTATION
from mesh.platforms.docker.sockets import PodSockets
from mesh.platforms.netns.forwards import Address
from mesh.platforms.netns.habitat import write_etc, write_proxy_etc
from mesh.platforms.process.environment import full_name
from mesh.platforms.process.volumes import Mount, PodVolumes


class DockerHabitat:
    """See `mesh.platforms.process.plan.Habitat`. `etc` and, for the proxy, `proxy_etc` are files of the host by where a
    container sees them.

    Without `volumes` no container is made here.
    """

    listen_address = "0.0.0.0"  # noqa: S104 - of the pod's own namespace

    def __init__(
        self,
        sockets: PodSockets,
        control: str,
        pod: Pod,
        folder: Path,
        volumes: PodVolumes | None,
        *,
        outside: Mapping[str, str],
    ) -> None:
        self.address = sockets.address
        self.host_address = control
        self.host_ports: dict[int, Address] = {}
        self.etc = write_etc(folder, pod, sockets.address, control)
        self.proxy_etc = write_proxy_etc(folder, self.etc, outside) if outside else self.etc
        self._sockets = sockets
        self._volumes = volumes

    async def dial(self, host: str, port: int) -> socket.socket:
        return await self._sockets.connect(host, port)

    def app_ports(self, pod: Pod, *, in_mesh: bool) -> Mapping[int, int]:
        return {}

    def annotations(self) -> Mapping[str, str]:
        ports = {str(port): f"{address[0]}:{address[1]}" for port, address in self.host_ports.items()}
        return {HOST_PORTS_ANNOTATION: json.dumps(ports)} if ports else {}

    def variables(self, folder: Path) -> Mapping[str, str]:
        return {}

    def service_host(self, service: Service, pod_ip: str) -> str:
        return full_name(service)

    def mounts(self, container: Container) -> tuple[Mount, ...]:
        return () if self._volumes is None else self._volumes.mounts(container)

    def enclosure(self, container: Container, cwd: Path) -> None:
        return None
