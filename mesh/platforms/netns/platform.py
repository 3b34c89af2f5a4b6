"""The `netns` platform: a pod is a network namespace of the lab, its containers are processes in sandboxes in there."""

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesh.api.pod import Pod
from mesh.api.pod_fault import Direction, Dns, NetworkEffect
from mesh.client import MeshClient
from mesh.platforms.base import PROXY_CONTAINER, Capability, LaidFault, PlatformError, RunningPod, Surroundings
from mesh.platforms.netns.dns import Resolver
from mesh.platforms.netns.faults.network import NetworkFaults
from mesh.platforms.netns.faults.probe import lacking
from mesh.platforms.netns.forwards import LOOPBACK, Address, Forwards, connect
from mesh.platforms.netns.habitat import Grounds, NetnsHabitat
from mesh.platforms.netns.host import HostPorts
from mesh.platforms.netns.interception import read_interception
from mesh.platforms.netns.names import NamesFollower
from mesh.platforms.netns.network import RESTORE, Hub, PodNetwork
from mesh.platforms.netns.pod_ports import PodPorts
from mesh.platforms.netns.runtime import NetnsPod, PodRuntime
from mesh.platforms.netns.way_out import HOST_NAME, open_way_out
from mesh.platforms.process.container import Spawn
from mesh.platforms.process.launcher import Launcher
from mesh.platforms.process.ledger import Ledger
from mesh.platforms.process.logs import keep_small
from mesh.platforms.process.plan import Folders, PodPlan
from mesh.platforms.process.pod import ProcessPod
from mesh.platforms.process.refusals import refuse_what_is_lacking
from mesh.platforms.process.volume_folder import remove_volumes
from mesh.platforms.process.volumes import PodVolumes

_OURS_ALONE = 0o700
"""A pod's containers have one user, who is ours."""


class NetnsPlatform:
    """Must be made in the lab, in the event loop, in the main thread."""

    name = "netns"

    def __init__(self, state: Path, spawn: Spawn, work_folder: Path, host: HostPorts) -> None:
        self._folders = Folders(state, work_folder)
        self._ledger = Ledger(state)
        self._spawn = spawn
        self._forwards = Forwards(host, spawn)
        self._pods: dict[str, _Placed] = {}
        self._followers: list[NamesFollower] = []
        self._resolver = Resolver()
        self._way_out: Forwards | None = None
        self.hub = Hub()
        outside = self._open_way_out(host) if host.reachable else {}
        self._grounds = Grounds(state, work_folder, outside)
        self.lacking: Mapping[Capability, str] = lacking()
        self.capabilities = frozenset(Capability) - self.lacking.keys()
        self._faults = NetworkFaults(functools.partial(self.hub.run, RESTORE), self._resolver)
        self.launcher = Launcher(self._ledger)
        self._keeper = spawn(keep_small(self._folders.logs))
        self._resolving = spawn(self._resolver.start(self.hub.address))

    @property
    def control_address(self) -> str:
        return self.hub.address

    def claim(self, port: int) -> None:
        self._forwards.claim(LOOPBACK, port)

    def reach_control(self, port: int) -> Address:
        return self._forwards.lead(LOOPBACK, 0, functools.partial(connect, self.hub.address, port))

    def follow(self, client: MeshClient) -> None:
        deliver = functools.partial(setattr, self._resolver, "table")
        self._followers.append(NamesFollower(client, deliver, self._grounds.outside))

    def place(self, pod: Pod, surroundings: Surroundings, on_change: Callable[[], None]) -> ProcessPod:
        refuse_what_is_lacking(pod, platform=self.name)
        names = {container.name for container in pod.spec.containers}
        # A gateway is a proxy alone: nothing in its pod is captured.
        interception = read_interception(pod.metadata.annotations) if names > {PROXY_CONTAINER} else None
        network = self.hub.reserve()
        ports = PodPorts(self._forwards, network.address, within=network.connect, beside=connect)
        folder = self._folders.volumes(pod.name)
        placed = _Placed(network, ports, folder)
        try:
            volumes = PodVolumes(pod, surroundings, folder, functools.partial(_empty_dir, folder), _OURS_ALONE)
            habitat = NetnsHabitat(
                network, self.hub.address, pod, self._grounds, volumes, intercepted=interception is not None
            )
            habitat.host_ports.update(ports.open_for_tools(pod))
            plan = PodPlan(pod, habitat, surroundings, self._folders)
            ports.open_host_ports(pod)
        except PlatformError:
            self._give_back(placed)
            raise
        runtime = PodRuntime(self.launcher)
        self._spawn(runtime.bring_up(functools.partial(self.hub.wire, network, interception)))
        running = NetnsPod(plan.pod, plan.containers, runtime, self._spawn, on_change=on_change, on_end=self._forget)
        placed.running = running
        self._pods[pod.name] = placed
        return running

    def disturb(
        self, pod: RunningPod, effect: NetworkEffect | Dns, direction: Direction, others: Sequence[RunningPod] | None
    ) -> LaidFault:
        addresses = None if others is None else [other.pod.status.pod_ip for other in others]
        return self._faults.lay(pod.pod.status.pod_ip, effect, direction, addresses)

    def log(self, pod: str, container: str) -> Path:
        return self._folders.log(pod, container)

    def forward(self, pod: RunningPod, port: int) -> Address:
        return self._pods[pod.pod.name].ports.show(port)

    async def end_pods(self, grace_s: float) -> None:
        running = [placed.running for placed in self._pods.values() if placed.running is not None]
        await asyncio.gather(*(pod.stop(drain=False, grace_s=grace_s) for pod in running))

    async def close(self) -> None:
        self._keeper.cancel()
        for follower in self._followers:
            follower.close()
        await asyncio.wait([self._resolving])
        self._faults.close()
        self._resolver.close()
        self._forwards.close_all()
        if self._way_out is not None:
            self._way_out.close_all()
        await asyncio.to_thread(self._ledger.sweep)

    def _open_way_out(self, host: HostPorts) -> Mapping[str, str]:
        """A network of its own, with the ports that lead out; its address by its name."""
        network = self.hub.add_pod(None)
        listening = {port: network.listen(port) for port in host.reachable}
        self._way_out = open_way_out(listening, host.connect, self._spawn)
        return {HOST_NAME: network.address}

    def _forget(self, pod: ProcessPod) -> None:
        placed = self._pods.pop(pod.pod.name, None)
        if placed is not None:
            self._give_back(placed)

    def _give_back(self, placed: "_Placed") -> None:
        placed.ports.close()
        remove_volumes(placed.volumes)
        self.hub.remove_pod(placed.network)


@dataclass(slots=True)
class _Placed:
    """What a pod has here."""

    network: PodNetwork
    ports: PodPorts
    volumes: Path
    running: ProcessPod | None = None


def _empty_dir(folder: Path, name: str) -> str:
    (folder / name).mkdir(mode=_OURS_ALONE, parents=True)
    return str(folder / name)
