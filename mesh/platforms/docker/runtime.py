"""What runs a pod's containers in the engine; see `mesh.platforms.process.container.Runtime`."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mesh.api.pod import PodSpec
from mesh.platforms.base import MAX_OUTPUT, PROXY_CONTAINER, ExecResult, PlatformError
from mesh.platforms.docker.container import ContainerLife, EngineContainer
from mesh.platforms.docker.engine import Engine, EngineError, bound, engine_volume
from mesh.platforms.docker.images import Images
from mesh.platforms.docker.infra import Infra
from mesh.platforms.docker.limits import limits_of
from mesh.platforms.docker.rules import PROXY_UID, ProxyIds
from mesh.platforms.docker.security import Rights, rights_of
from mesh.platforms.process.container import ContainerPlan
from mesh.platforms.process.volumes import Mount

PROXY_FOLDER = "/etc/istio/proxy"
"""The working folder of the proxy's agent, Istio's; in the layer of its container, which no other sees."""

NO_LOG = {"type": "none"}
"""Logs are files of the state folder; the engine keeps none."""


class PodRuntime:
    """Of one pod. `etc`: of each container, files of the host by where it sees them. `proxy`: who the proxy runs as."""

    def __init__(
        self,
        engine: Engine,
        infra: Infra,
        *,
        spec: PodSpec,
        labels: Mapping[str, Mapping[str, str]],
        names: Mapping[str, str],
        etc: Mapping[str, Mapping[str, str]],
        proxy: ProxyIds,
    ) -> None:
        self._engine = engine
        self._infra = infra
        self._images = Images(engine)
        self._declared = {container.name: container for container in spec.all_containers}
        self._security = spec.security_context
        self._labels = labels
        self._names = names
        self._etc = etc
        self._proxy = proxy
        self._made: dict[str, EngineContainer] = {}
        self._provided: dict[str, bytes] = {}
        self._up: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def bring_up(self, folder: Path, rules: str) -> None:
        """Gives the pod its network, which its containers wait for. A failure is theirs to tell."""
        try:
            await self._infra.start(folder, rules)
        except PlatformError as error:
            self._up.set_exception(error)
        else:
            self._up.set_result(None)

    async def run(self, plan: ContainerPlan) -> ContainerLife:
        try:
            await asyncio.shield(self._up)
            if plan.name not in self._made:
                self._made[plan.name] = await self._engine.call(self._container, plan)
        except PlatformError as error:
            raise OSError(str(error)) from error
        return await self._made[plan.name].start()

    def provide(self, files: Mapping[str, bytes]) -> None:
        """To the proxy's container alone, now or when it is made. Blocks for a moment."""
        self._provided |= files
        proxy = self._made.get(PROXY_CONTAINER)
        if proxy is not None:
            proxy.put(PROXY_FOLDER, files, PROXY_UID)

    async def exec(self, plan: ContainerPlan, command: Sequence[str], timeout_s: float) -> ExecResult:
        made = self._made.get(plan.name)
        if made is None or not made.id:
            return ExecResult(126, f"container {plan.name} is not running")
        try:
            return await asyncio.wait_for(self._engine.call(self._exec, made.id, list(command)), timeout_s)
        except EngineError as error:
            return ExecResult(126, str(error))

    async def remove(self) -> None:
        """All containers, and with the last one the network. Raises EngineError."""
        await asyncio.gather(*(container.remove() for container in self._made.values()))
        await self._infra.remove()

    def _exec(self, container: str, command: list[str]) -> ExecResult:
        code, output = self._engine.exec(container, command)
        return ExecResult(code, output[:MAX_OUTPUT].decode(errors="replace"))

    def _container(self, plan: ContainerPlan) -> EngineContainer:
        declared = self._declared[plan.name]
        is_proxy = plan.name == PROXY_CONTAINER
        image = self._images.have(declared.image)
        ours = Rights(self._proxy.user, self._proxy.groups)
        rights = ours if is_proxy else rights_of(declared, self._security, image)
        host = self._engine.api.create_host_config(
            network_mode=f"container:{self._infra.id}",
            binds={source: {"bind": place, "mode": "ro"} for place, source in self._etc[plan.name].items()},
            mounts=[_mounted(mount) for mount in plan.mounts],
            cap_drop=["ALL"],
            cap_add=list(rights.capabilities),
            group_add=list(rights.groups),
            read_only=rights.read_only,
            **limits_of(declared),
            security_opt=["no-new-privileges:true"],
            init=True,
            log_config=NO_LOG,
        )
        words = len(declared.command)
        arguments: dict[str, Any] = {
            "image": declared.image,
            "entrypoint": list(plan.argv[:words]) or None,
            "command": list(plan.argv[words:]) or None,
            "environment": dict(plan.env),
            "name": self._names[plan.name],
            "labels": dict(self._labels[plan.name]),
            "host_config": host,
            "working_dir": PROXY_FOLDER if is_proxy else declared.working_dir or None,
            "user": rights.user,
        }
        made = EngineContainer(self._engine, arguments, plan.log)
        if is_proxy and self._provided:
            made.put(PROXY_FOLDER, self._provided, PROXY_UID)
        return made


def _mounted(mount: Mount) -> Any:
    if mount.source.startswith("/"):
        return bound(mount.source, mount.target)
    return engine_volume(mount.source, mount.target, writable=mount.writable)
