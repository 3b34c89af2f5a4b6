"""One pod's place in the lab: its network, what is around its containers, its ports on the host."""

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mesh
from mesh.api.core import Service
from mesh.api.pod import Container, Pod
from mesh.client.types import HOST_PORTS_ANNOTATION
from mesh.platforms.base import PROXY_CONTAINER
from mesh.platforms.netns import linux
from mesh.platforms.netns.forwards import Address
from mesh.platforms.netns.network import PodNetwork
from mesh.platforms.netns.sandbox import Sandbox
from mesh.platforms.process.environment import full_name
from mesh.platforms.process.volumes import Mount, PodVolumes

_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - the host's, as for any program
_MAY_MARK_SINCE = (5, 17)
_CLUSTER_DOMAIN = "svc.cluster.local"


@dataclass(frozen=True, slots=True)
class Grounds:
    """What all pods have to do with: of the host's files the mesh's state and the folder apps run in, and addresses
    outside of the mesh by their names."""

    state: Path
    work: Path
    outside: Mapping[str, str]

    @property
    def hidden(self) -> str:
        """With the default folder the states of the user's other meshes lie beside ours."""
        state = Path(os.path.realpath(self.state))
        return str(state.parent if state.parent.name == "meshdrill" else state)


class NetnsHabitat:
    """See `mesh.platforms.process.plan.Habitat`. `host_ports` are annotated, so that others on the host find them."""

    listen_address = "0.0.0.0"  # noqa: S104 - of the pod's own namespace

    def __init__(
        self, network: PodNetwork, hub: str, pod: Pod, grounds: Grounds, volumes: PodVolumes, *, intercepted: bool
    ) -> None:
        self.address = network.address
        self.host_address = hub
        self.network = network
        self.host_ports: dict[int, Address] = {}
        self._pod = pod
        self._grounds = grounds
        self._volumes = volumes
        self._intercepted = intercepted
        folder = grounds.state / "pods" / pod.name
        self._etc = write_etc(folder, pod, network.address, hub)
        self._proxy_etc = write_proxy_etc(folder, self._etc, grounds.outside)

    async def dial(self, host: str, port: int) -> socket.socket:
        return await self.network.connect(host, port)

    def app_ports(self, pod: Pod, *, in_mesh: bool) -> Mapping[int, int]:
        return {}

    def annotations(self) -> Mapping[str, str]:
        if not self.host_ports:
            return {}
        ports = {str(port): f"{address[0]}:{address[1]}" for port, address in self.host_ports.items()}
        return {HOST_PORTS_ANNOTATION: json.dumps(ports)}

    def variables(self, folder: Path) -> Mapping[str, str]:
        return {}

    def service_host(self, service: Service, pod_ip: str) -> str:
        return full_name(service)

    def mounts(self, container: Container) -> tuple[Mount, ...]:
        return self._volumes.mounts(container)

    def enclosure(self, container: Container, cwd: Path) -> Sandbox:
        is_proxy = container.name == PROXY_CONTAINER
        work = os.path.realpath(self._grounds.work)
        writable = (work, *_TEMPORARY) if not is_proxy else ()
        code = {os.path.realpath(folder) for folder in (Path(mesh.__file__).parent, sys.prefix, sys.base_prefix)}
        return Sandbox(
            network=self.network.fd,
            hostname=self._pod.name,
            cwd=os.path.realpath(cwd),
            hidden=self._grounds.hidden,
            kept=os.path.realpath(cwd) if is_proxy else "",
            writable=tuple(folder for folder in writable if folder != "/" and os.path.isdir(folder)),
            # An app that could write the proxy's program could be the proxy.
            protected=tuple(sorted(code)) if not is_proxy else (),
            etc=self._proxy_etc if is_proxy else self._etc,
            mounts=self.mounts(container),
            capabilities=(_may_mark(),) if is_proxy and self._intercepted else (),
        )


def _may_mark() -> int:
    """The smallest capability that lets the proxy mark its connections (SO_MARK in socket(7))."""
    major, minor, *_ = os.uname().release.split(".")
    return linux.CAP_NET_RAW if (int(major), int(minor)) >= _MAY_MARK_SINCE else linux.CAP_NET_ADMIN


def write_etc(folder: Path, pod: Pod, address: str, resolver: str) -> Mapping[str, str]:
    """Writes `resolv.conf` and `hosts` as the kubelet makes them, by the place where the pod is to see them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    search = f"{pod.namespace}.{_CLUSTER_DOMAIN} {_CLUSTER_DOMAIN} cluster.local"
    texts = {
        "resolv.conf": f"nameserver {resolver}\nsearch {search}\noptions ndots:5 timeout:2 attempts:2\n",
        "hosts": f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{address}\t{pod.name}\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)  # for whatever user a container has; the folder is ours alone
    return {f"/etc/{name}": os.path.realpath(folder / name) for name in texts}


def write_proxy_etc(folder: Path, etc: Mapping[str, str], outside: Mapping[str, str]) -> Mapping[str, str]:
    """The same for the pod's proxy, which finds what is outside without DNS: where a ServiceEntry has such a name, DNS
    has an address that leads an app into its proxy, and the proxy nowhere."""
    hosts = folder / "hosts.proxy"
    lines = (f"{address}\t{name}\n" for name, address in outside.items())
    hosts.write_text(Path(etc["/etc/hosts"]).read_text() + "".join(lines))
    return {**etc, "/etc/hosts": os.path.realpath(hosts)}
