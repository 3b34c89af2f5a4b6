"""The `process` platform: a pod is some processes with an address of their own on loopback. No privileges needed."""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mesh.api.pod import Pod
from mesh.api.pod_fault import Direction, Dns, NetworkEffect
from mesh.client import MeshClient
from mesh.platforms.base import (
    ON_NETWORK,
    ON_PROCESSES,
    Capability,
    LaidFault,
    PlatformError,
    RunningPod,
    Surroundings,
    port_taken,
)
from mesh.platforms.process.addresses import take_block
from mesh.platforms.process.container import Spawn
from mesh.platforms.process.launcher import Launcher
from mesh.platforms.process.ledger import Ledger
from mesh.platforms.process.logs import keep_small
from mesh.platforms.process.plan import Folders, LoopbackHabitat, PodPlan
from mesh.platforms.process.pod import ProcessPod
from mesh.platforms.process.refusals import refuse_what_is_lacking

_NO_NETWORK = "on the `process` platform all pods share the host's loopback; use --platform netns"


class ProcessPlatform:
    """Holds the address block while it is open. All of it runs in one event loop, in the main thread."""

    name = "process"
    capabilities = ON_PROCESSES
    lacking: Mapping[Capability, str] = dict.fromkeys(ON_NETWORK, _NO_NETWORK)

    def __init__(self, state: Path, spawn: Spawn, work_folder: Path) -> None:
        self._folders = Folders(state, work_folder)
        self._ledger = Ledger(state)
        self._spawn = spawn
        self._block = take_block()
        self._pods: dict[str, ProcessPod] = {}
        self.launcher = Launcher(self._ledger)
        self._keeper = spawn(keep_small(self._folders.logs))

    @property
    def control_address(self) -> str:
        return self._block.control

    def claim(self, port: int) -> None:
        """Only looks whether it is free: the pod's proxy binds it."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise PlatformError(port_taken("127.0.0.1", port, error.strerror or str(error))) from error

    def reach_control(self, port: int) -> tuple[str, int]:
        return self.control_address, port

    def follow(self, client: MeshClient) -> None:
        """Nothing: apps name no addresses here, their proxies do."""

    def place(self, pod: Pod, surroundings: Surroundings, on_change: Callable[[], None]) -> ProcessPod:
        refuse_what_is_lacking(pod)
        address = self._block.take()
        try:
            plan = PodPlan(pod, LoopbackHabitat(address), surroundings, self._folders)
        except PlatformError:
            self._block.give_back(address)
            raise
        placed = ProcessPod(
            plan.pod, plan.containers, self.launcher, self._spawn, on_change=on_change, on_end=self._forget
        )
        self._pods[pod.name] = placed
        return placed

    def log(self, pod: str, container: str) -> Path:
        return self._folders.log(pod, container)

    def forward(self, pod: RunningPod, port: int) -> tuple[str, int]:
        return pod.pod.status.pod_ip, port

    def disturb(
        self, pod: RunningPod, effect: NetworkEffect | Dns, direction: Direction, others: Sequence[RunningPod] | None
    ) -> LaidFault:
        raise PlatformError(_NO_NETWORK)

    async def end_pods(self, grace_s: float) -> None:
        await asyncio.gather(*(pod.stop(drain=False, grace_s=grace_s) for pod in list(self._pods.values())))

    async def close(self) -> None:
        self._keeper.cancel()
        await asyncio.to_thread(self._ledger.sweep)
        self._block.close()

    def _forget(self, pod: ProcessPod) -> None:
        self._pods.pop(pod.pod.name, None)
        self._block.give_back(pod.pod.status.pod_ip)
