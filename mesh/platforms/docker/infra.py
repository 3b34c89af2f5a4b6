"""A pod's infra container: it owns the namespaces that the others join, so that they may end and come back."""

import json
from collections.abc import Sequence
from pathlib import Path

from mesh.platforms.base import PlatformError
from mesh.platforms.docker.conversation import Conversation
from mesh.platforms.docker.engine import Engine, close, engine_volume
from mesh.platforms.docker.network import Network
from mesh.platforms.docker.ownership import INFRA, Ownership, host_name
from mesh.platforms.docker.pod_init import READY, SOCKET, VARIABLE
from mesh.platforms.docker.sockets import PodSockets

_LOG = {"type": "json-file", "config": {"max-size": "1m", "max-file": "1"}}
_CAPABILITIES = ("NET_ADMIN", "NET_RAW", "SETUID", "SETGID")
"""For the rules, and to let go of all of it afterwards. `iptables-legacy` takes NET_RAW."""

_SYSCTLS = {
    "net.ipv4.ip_unprivileged_port_start": "0",  # apps without capabilities listen on port 80 too, and DNS on 53
    "net.ipv6.conf.all.disable_ipv6": "1",  # nothing of it is captured
}


class Infra(PodSockets):
    """`empty_dirs` are volumes of the engine, which begin and end with it."""

    def __init__(
        self,
        engine: Engine,
        own: Ownership,
        network: Network,
        image: str,
        *,
        pod: str,
        namespace: str,
        address: str,
        empty_dirs: Sequence[str] = (),
    ) -> None:
        super().__init__(pod, address)
        self._engine = engine
        self._network = network
        self._image = image
        self._name = own.name(pod, INFRA)
        self._labels = own.labels(namespace=namespace, pod=pod, container=INFRA)
        self._empty_dirs = {f"/volumes/{number}": name for number, name in enumerate(empty_dirs)}
        self.id = ""

    async def start(self, folder: Path, rules: str) -> None:
        """Returns when the rules are in force. `folder` is this host's side of the socket over which sockets are made
        inside. Raises PlatformError."""
        await self._engine.call(self._start, folder, rules)

    def _start(self, folder: Path, rules: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o777)  # the container's root has no capability to write elsewhere; what is above is 0700
        self._create(folder, rules)
        self._await_ready()
        if not (folder / Path(SOCKET).name).exists():
            raise PlatformError(
                f"the Docker engine does not share {folder} with this process: it must run on the same file system"
            )
        self.open(folder)

    def _create(self, folder: Path, rules: str) -> None:
        api = self._engine.api
        host = api.create_host_config(
            network_mode=self._network.name,
            binds={str(folder): {"bind": str(Path(SOCKET).parent), "mode": "rw"}},
            mounts=[engine_volume(name, place, self._labels) for place, name in self._empty_dirs.items()],
            cap_drop=["ALL"],
            cap_add=list(_CAPABILITIES),
            security_opt=["no-new-privileges:true"],
            sysctls=_SYSCTLS,
            init=True,
            log_config=_LOG,
        )
        endpoint = api.create_endpoint_config(ipv4_address=self.address)
        wanted = {"address": self.address, "rules": rules, "folders": list(self._empty_dirs)}
        made = api.create_container(
            self._image,
            entrypoint=["python", "-I", "-m", "mesh.platforms.docker.pod_init"],
            command=[],
            name=self._name,
            hostname=host_name(self._pod),
            user="0:0",
            environment={VARIABLE: json.dumps(wanted)},
            labels=self._labels,
            host_config=host,
            networking_config=api.create_networking_config({self._network.name: endpoint}),
        )
        self.id = str(made["Id"])

    def _await_ready(self) -> None:
        api = self._engine.api
        output = api.attach(self.id, stdout=True, stderr=True, stream=True)
        api.start(self.id)
        said = b""
        try:
            for chunk in output:
                said += chunk
                if f"{READY}\n".encode() in said:
                    return
        finally:
            close(output)
        raise PlatformError(f"the network of pod {self._pod} cannot be set up: {said.decode(errors='replace').strip()}")

    def restore(self, rules: str) -> None:
        """Hands rules to `iptables-restore -n` in the pod. Blocks. Raises PlatformError."""
        command = ["sh", "-c", 'printf %s "$0" | iptables-restore -n', rules]
        code, said = self._engine.exec(self.id, command, user="0:0")
        if code != 0:
            raise PlatformError(f"pod {self._pod} takes no rules: {said.decode(errors='replace').strip()}")

    def run(self, command: list[str]) -> str:
        """What a command says that runs with the privileges that rules take. Blocks. Raises PlatformError."""
        code, said = self._engine.exec(self.id, command, user="0:0")
        text = said.decode(errors="replace").strip()
        if code != 0:
            raise PlatformError(f"`{' '.join(command)}` in the network of pod {self._pod}: {text}")
        return text

    def converse(self, command: list[str]) -> Conversation:
        """With a command that runs with those privileges. Blocks. Raises EngineError."""
        return Conversation(self._engine, self.id, command, user="0:0")

    async def remove(self) -> None:
        """Raises EngineError."""
        self.close()
        if self.id:
            await self._engine.call(self._engine.remove, self.id)
            for name in self._empty_dirs.values():
                await self._engine.call(self._engine.remove_volume, name)
