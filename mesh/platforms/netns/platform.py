"""The `netns` platform: a pod is a network namespace of the lab, its containers are processes in sandboxes in there."""

import asyncio
import functools
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mesh.api.pod import Pod
from mesh.api.pod_fault import Direction, Dns, NetworkEffect
from mesh.client import MeshClient
from mesh.platforms.base import PROXY_CONTAINER, Capability, LaidFault, PlatformError, RunningPod, Surroundings
from mesh.platforms.netns.dns import Resolver
from mesh.platforms.netns.faults.network import NetworkFaults
from mesh.platforms.netns.faults.probe import lacking
from mesh.platforms.netns.forwards import LOOPBACK, Address, Forwards
from mesh.platforms.netns.habitat import Grounds, NetnsHabitat
from mesh.platforms.netns.host import HostPorts
from mesh.platforms.netns.interception import read_interception
from mesh.platforms.netns.names import NamesFollower
from mesh.platforms.netns.network import Hub, PodNetwork
from mesh.platforms.netns.splice import Dial
from mesh.platforms.process.container import Spawn
from mesh.platforms.process.launcher import Launcher
from mesh.platforms.process.ledger import Ledger
from mesh.platforms.process.logs import keep_small
from mesh.platforms.process.plan import Folders, PodPlan
from mesh.platforms.process.pod import ProcessPod
from mesh.platforms.process.refusals import refuse_what_is_lacking

_SHOWN = (15000, 15020, 15021, 15090)
"""Ports of a proxy that the mesh's own tools ask for, from the host."""


class NetnsPlatform:
    """Must be made in the lab, in the event loop, in the main thread."""

    name = "netns"

    def __init__(self, state: Path, spawn: Spawn, work_folder: Path, host: HostPorts) -> None:
        self._folders = Folders(state, work_folder)
        self._grounds = Grounds(state, work_folder)
        self._ledger = Ledger(state)
        self._spawn = spawn
        self._forwards = Forwards(host, spawn)
        self._pods: dict[str, _Placed] = {}
        self._followers: list[NamesFollower] = []
        self._resolver = Resolver()
        self.hub = Hub()
        self.lacking: Mapping[Capability, str] = lacking()
        self.capabilities = frozenset(Capability) - self.lacking.keys()
        self._faults = NetworkFaults(functools.partial(self.hub.run, ["iptables-restore", "-n"]), self._resolver)
        self.launcher = Launcher(self._ledger)
        self._keeper = spawn(keep_small(self._folders.logs))
        self._resolving = spawn(self._resolver.start(self.hub.address))

    @property
    def control_address(self) -> str:
        return self.hub.address

    def claim(self, port: int) -> None:
        self._forwards.claim(LOOPBACK, port)

    def reach_control(self, port: int) -> Address:
        return self._forwards.lead(LOOPBACK, 0, functools.partial(_connect, self.hub.address, port))

    def follow(self, client: MeshClient) -> None:
        self._followers.append(NamesFollower(client, functools.partial(setattr, self._resolver, "table")))

    def place(self, pod: Pod, surroundings: Surroundings, on_change: Callable[[], None]) -> ProcessPod:
        refuse_what_is_lacking(pod)
        names = {container.name for container in pod.spec.containers}
        # A gateway is a proxy alone: nothing in its pod is captured.
        interception = read_interception(pod.metadata.annotations) if names > {PROXY_CONTAINER} else None
        network = self.hub.add_pod(interception)
        placed = _Placed(network, self._forwards)
        try:
            habitat = NetnsHabitat(network, self.hub.address, pod, self._grounds, intercepted=interception is not None)
            habitat.host_ports.update({port: placed.reach(port) for port in _declared(pod)})
            if PROXY_CONTAINER in names:
                habitat.host_ports.update({port: placed.show(port) for port in _SHOWN})
            plan = PodPlan(pod, habitat, surroundings, self._folders)
            placed.open_host_ports(pod)
        except PlatformError:
            self._give_back(placed)
            raise
        running = ProcessPod(
            plan.pod, plan.containers, self.launcher, self._spawn, on_change=on_change, on_end=self._forget
        )
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
        return self._pods[pod.pod.name].show(port)

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
        await asyncio.to_thread(self._ledger.sweep)

    def _forget(self, pod: ProcessPod) -> None:
        placed = self._pods.pop(pod.pod.name, None)
        if placed is not None:
            self._give_back(placed)

    def _give_back(self, placed: "_Placed") -> None:
        placed.close()
        self.hub.remove_pod(placed.network)


class _Placed:
    """What a pod has here: its network and its ports on the host."""

    def __init__(self, network: PodNetwork, forwards: Forwards) -> None:
        self.network = network
        self.running: ProcessPod | None = None
        self._forwards = forwards
        self._shown: dict[int, Address] = {}
        self._reached: dict[int, Address] = {}
        self._host_ports: list[tuple[Address, Dial]] = []

    def show(self, port: int) -> Address:
        """A port of the host that leads to `port` inside of the pod, past its sidecar (kubectl's port-forward)."""
        if port not in self._shown:
            self._shown[port] = self._forwards.lead(LOOPBACK, 0, functools.partial(self._connect_inside, port))
        return self._shown[port]

    def reach(self, port: int) -> Address:
        """A port of the host that leads to `port` of the pod as from another pod, through its sidecar."""
        if port not in self._reached:
            dial = functools.partial(_connect, self.network.address, port)
            self._reached[port] = self._forwards.lead(LOOPBACK, 0, dial)
        return self._reached[port]

    def open_host_ports(self, pod: Pod) -> None:
        """`hostPort`s lead to the pod as from another node. Raises PlatformError when one cannot be had."""
        for container in pod.spec.containers:
            for port in container.ports:
                if port.host_port:
                    dial = functools.partial(_connect, self.network.address, port.container_port)
                    self._host_ports.append((self._forwards.lead(port.host_ip or LOOPBACK, port.host_port, dial), dial))

    def close(self) -> None:
        for address in (*self._shown.values(), *self._reached.values()):
            self._forwards.close(address)
        for address, dial in self._host_ports:
            self._forwards.unlead(address, dial)

    async def _connect_inside(self, port: int) -> socket.socket:
        try:
            return await self.network.connect(LOOPBACK, port)
        except ConnectionRefusedError:
            return await self.network.connect(self.network.address, port)


def _declared(pod: Pod) -> set[int]:
    """The apps' TCP ports, which other pods may call."""
    apps = (container for container in pod.spec.containers if container.name != PROXY_CONTAINER)
    return {port.container_port for app in apps for port in app.ports if port.protocol == "TCP"}


async def _connect(address: str, port: int) -> socket.socket:
    """From the hub, which is where this process is."""
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock
