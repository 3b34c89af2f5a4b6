"""One pod: its containers, started and stopped together."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import Signals

from mesh.api.pod import ContainerStatus, Pod
from mesh.platforms.base import PROXY_CONTAINER, ExecResult, PlatformError
from mesh.platforms.process.container import ContainerPlan, ContainerProcess, Runtime, Spawn

_DRAIN_S = 10.0


class ProcessPod:
    """See `mesh.platforms.base.RunningPod`."""

    def __init__(
        self,
        pod: Pod,
        plans: Sequence[ContainerPlan],
        runtime: Runtime,
        spawn: Spawn,
        *,
        on_change: Callable[[], None],
        on_end: Callable[["ProcessPod"], None],
    ) -> None:
        self.pod = pod
        self._on_end = on_end
        made = {plan.name: ContainerProcess(plan, runtime, spawn, on_change) for plan in plans}
        self._init = {name: container for name, container in made.items() if container.plan.is_init}
        self._containers = {name: container for name, container in made.items() if name not in self._init}

    def provide(self, files: Mapping[str, bytes]) -> None:
        folder = self._container(PROXY_CONTAINER).plan.cwd
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in files.items():
            _write_private(folder / name, content)

    async def initialise(self) -> bool:
        for container in self._init.values():
            if not await container.complete():
                return False
        return True

    def start(self, containers: Sequence[str]) -> None:
        for name in containers:
            self._container(name).start()

    def statuses(self) -> tuple[ContainerStatus, ...]:
        return tuple(container.status for container in self._containers.values())

    def init_statuses(self) -> tuple[ContainerStatus, ...]:
        return tuple(container.status for container in self._init.values())

    def signal(self, container: str, sig: Signals) -> None:
        self._container(container).signal(sig)

    def pause(self, container: str) -> None:
        self._container(container).pause()

    def resume(self, container: str) -> None:
        self._container(container).resume()

    def kill(self, container: str) -> None:
        self._container(container).kill()

    async def exec(self, container: str, command: Sequence[str], timeout_s: float) -> ExecResult:
        return await self._container(container).exec(command, timeout_s)

    async def stop(self, *, drain: bool, grace_s: float) -> None:
        proxy = self._containers.get(PROXY_CONTAINER)
        apps = [container for container in self._containers.values() if container is not proxy]
        if drain:
            await asyncio.gather(*(container.prepare_to_stop(grace_s) for container in apps))
        if proxy is not None and drain:  # the apps must answer until the calls in flight are through
            await proxy.stop(min(grace_s, _DRAIN_S))
        rest = apps if proxy is None or drain else [*apps, proxy]
        await asyncio.gather(*(container.stop(grace_s) for container in (*self._init.values(), *rest)))
        await self._clean_up()
        self._on_end(self)

    async def _clean_up(self) -> None:
        """What is left when all containers have ended: of processes nothing is."""

    def _container(self, name: str) -> ContainerProcess:
        found = self._init | self._containers
        if name not in found:
            raise PlatformError(f'pod {self.pod.name} has no container "{name}"; it has {", ".join(found)}')
        return found[name]


def _write_private(file: Path, content: bytes) -> None:
    temporary = file.with_name(f".{file.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as target:
        target.write(content)
    temporary.rename(file)
