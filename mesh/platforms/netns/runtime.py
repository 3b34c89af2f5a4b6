"""What runs a pod's containers in the lab: as soon as its network is wired; see `mesh.platforms.process.container`."""

import asyncio
from collections.abc import Callable, Sequence

from mesh.api.pod import Pod
from mesh.platforms.base import ExecResult, PlatformError
from mesh.platforms.process.container import ContainerPlan, Running, Runtime, Spawn
from mesh.platforms.process.pod import ProcessPod


class PodRuntime:
    """Of one pod. Must be made in the event loop."""

    def __init__(self, launcher: Runtime) -> None:
        self._launcher = launcher
        self._wired: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def bring_up(self, wire: Callable[[], None]) -> None:
        """Calls `wire` in a thread, as it waits for commands. A PlatformError is the containers' to tell."""
        try:
            await asyncio.to_thread(wire)
        except PlatformError as error:
            self._wired.set_exception(error)
        else:
            self._wired.set_result(None)

    async def settled(self) -> None:
        """Returns when nothing more is done to the network, wired or not."""
        await asyncio.wait([self._wired])

    async def run(self, plan: ContainerPlan) -> Running:
        try:
            await asyncio.shield(self._wired)
        except PlatformError as error:
            raise OSError(str(error)) from error
        return await self._launcher.run(plan)

    async def exec(self, plan: ContainerPlan, command: Sequence[str], timeout_s: float) -> ExecResult:
        return await self._launcher.exec(plan, command, timeout_s)


class NetnsPod(ProcessPod):
    """A pod whose network is not taken away while it is still being wired."""

    def __init__(
        self,
        pod: Pod,
        plans: Sequence[ContainerPlan],
        runtime: PodRuntime,
        spawn: Spawn,
        *,
        on_change: Callable[[], None],
        on_end: Callable[[ProcessPod], None],
    ) -> None:
        super().__init__(pod, plans, runtime, spawn, on_change=on_change, on_end=on_end)
        self._runtime = runtime

    async def _clean_up(self) -> None:
        await self._runtime.settled()
