"""The `docker` platform: a pod is an infra container and those that join its network, on a bridge of the mesh's own."""

import asyncio
import functools
import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesh.api.pod import Container, Pod
from mesh.api.pod_fault import Direction, Dns, NetworkEffect
from mesh.api.security_context import PodSecurityContext
from mesh.client import MeshClient
from mesh.injector.inject import PROXY_IMAGE
from mesh.platforms.base import (
    PROXY_CONTAINER,
    Capability,
    LaidFault,
    PlatformError,
    RunningPod,
    Surroundings,
    port_taken,
)
from mesh.platforms.docker.container import ContainerLife, EngineContainer
from mesh.platforms.docker.engine import Engine
from mesh.platforms.docker.faults import PodFaults, lacking
from mesh.platforms.docker.habitat import DockerHabitat
from mesh.platforms.docker.images import Images
from mesh.platforms.docker.infra import Infra
from mesh.platforms.docker.network import Network
from mesh.platforms.docker.ownership import Ownership
from mesh.platforms.docker.rules import ProxyIds, pod_rules
from mesh.platforms.docker.runtime import NO_LOG, PodRuntime
from mesh.platforms.docker.sweep import sweep
from mesh.platforms.leftovers import ENGINE_MARK
from mesh.platforms.netns.dns import PORT, Resolver
from mesh.platforms.netns.faults.network import NetworkFaults
from mesh.platforms.netns.forwards import LOOPBACK, Address, Forwards, connect
from mesh.platforms.netns.interception import read_interception
from mesh.platforms.netns.names import NamesFollower
from mesh.platforms.netns.pod_ports import PodPorts
from mesh.platforms.netns.way_out import HOST_NAME, open_way_out
from mesh.platforms.process.container import ContainerPlan, Spawn
from mesh.platforms.process.logs import keep_small
from mesh.platforms.process.plan import Folders, PodPlan
from mesh.platforms.process.pod import ProcessPod
from mesh.platforms.process.refusals import refuse_what_is_lacking
from mesh.platforms.process.volume_folder import remove_volumes
from mesh.platforms.process.volumes import PodVolumes, empty_dirs

_ANY_MODE = 0o777
"""An image has users of its own, who read what all may. The folder above is this user's alone."""

_CONTROL, _OUTSIDE = "control", "outside"
_BACKLOG = 1024


class DockerPlatform:
    """Must be made in the event loop."""

    name = "docker"

    def __init__(self, state: Path, spawn: Spawn, mesh: str, run: str, *, reachable: Collection[int] = ()) -> None:
        """`run` is another one each time, `reachable` are the ports of this host that pods may call. What the kernel
        lacks is known when the control plane starts. Raises PlatformError."""
        self.lacking: Mapping[Capability, str] = {}
        self.capabilities = frozenset(Capability)
        self._engine = Engine()
        self._engine.refuse_mapped_ids()
        self._own = Ownership.of(state, mesh=mesh, run=run)
        self._state = state
        self._spawn = spawn
        self._folders = Folders(state, Path("/"))
        self._forwards = Forwards(_HostPorts(), spawn)
        self._pods: dict[str, _Placed] = {}
        self._followers: list[NamesFollower] = []
        self._resolver = Resolver()
        self._dns_faults = NetworkFaults(_no_rules, self._resolver)
        self._images = Images(self._engine)
        self._images.check(Container(name=PROXY_CONTAINER, image=PROXY_IMAGE), PodSecurityContext())
        (state / ENGINE_MARK).write_text(run)
        self._network = Network(self._engine, self._own, internal=True)
        self._control = self._infra(_CONTROL, "", self._network.addresses.control)
        self._control_container: EngineContainer | None = None
        self._reachable = reachable
        self._outside = self._infra(_OUTSIDE, "", self._network.addresses.outside) if reachable else None
        self._outside_names = {HOST_NAME: self._outside.address} if self._outside is not None else {}
        self._way_out: Forwards | None = None
        self._keeper = spawn(keep_small(self._folders.logs))
        self._control_up = spawn(self._begin())

    @property
    def control_address(self) -> str:
        return self._network.addresses.control

    def claim(self, port: int) -> None:
        self._forwards.claim(LOOPBACK, port)

    def reach_control(self, port: int) -> Address:
        return self._forwards.lead(LOOPBACK, 0, functools.partial(self._control.connect, self.control_address, port))

    async def start_control(self, argv: Sequence[str], log: Path) -> ContainerLife:
        """See `mesh.platforms.node.control_plane.Start`. It sees of the host the state folder alone, as this user."""
        await asyncio.shield(self._control_up)
        if self._control_container is None:
            host = self._engine.api.create_host_config(
                network_mode=f"container:{self._control.id}",
                binds={str(self._state): {"bind": str(self._state), "mode": "rw"}},
                cap_drop=["ALL"],
                security_opt=["no-new-privileges:true"],
                init=True,
                log_config=NO_LOG,
            )
            arguments = {
                "image": PROXY_IMAGE,
                "entrypoint": list(argv),
                "command": [],
                "name": self._own.name(_CONTROL),
                "labels": self._own.labels(pod=_CONTROL, container=_CONTROL),
                "host_config": host,
                "user": f"{os.getuid()}:{os.getgid()}",
                "working_dir": str(self._state),
            }
            self._control_container = EngineContainer(self._engine, arguments, log)
        return await self._control_container.start()

    def follow(self, client: MeshClient) -> None:
        deliver = functools.partial(setattr, self._resolver, "table")
        self._followers.append(NamesFollower(client, deliver, self._outside_names))

    def place(self, pod: Pod, surroundings: Surroundings, on_change: Callable[[], None]) -> ProcessPod:
        refuse_what_is_lacking(pod, platform=self.name, images=True)
        for container in pod.spec.all_containers:
            self._images.check(container, pod.spec.security_context)
        names = {container.name for container in pod.spec.containers}
        # A gateway is a proxy alone: nothing in its pod is captured.
        interception = read_interception(pod.metadata.annotations) if names > {PROXY_CONTAINER} else None
        empty = {name: self._own.name(pod.name, name) for name in empty_dirs(pod)}
        infra = self._infra(pod.name, pod.namespace, self._network.addresses.take(), list(empty.values()))
        faults = PodFaults(infra, self.control_address, self._resolver)
        ports = PodPorts(self._forwards, infra.address, within=infra.connect, beside=self._control.connect)
        placed = _Placed(infra, ports, faults, self._folders.volumes(pod.name))
        try:
            folder = self._folders.pod(pod.name)
            volumes = PodVolumes(pod, surroundings, placed.volumes, empty.__getitem__, _ANY_MODE)
            habitat = DockerHabitat(infra, self.control_address, pod, folder, volumes, outside=self._outside_names)
            habitat.host_ports.update(ports.open_for_tools(pod))
            plan = PodPlan(pod, habitat, surroundings, self._folders, base={"PYTHONUNBUFFERED": "1"})
            ports.open_host_ports(pod)
        except PlatformError:
            self._give_back(placed)
            raise
        proxy = ProxyIds.drawn()
        runtime = self._runtime(pod, infra, habitat, proxy)
        rules = pod_rules(interception, self.control_address, proxy)
        self._spawn(runtime.bring_up(folder / "infra", rules))
        running = DockerPod(plan.pod, plan.containers, runtime, self._spawn, on_change=on_change, on_end=self._forget)
        placed.running = running
        self._pods[pod.name] = placed
        return running

    def log(self, pod: str, container: str) -> Path:
        return self._folders.log(pod, container)

    def forward(self, pod: RunningPod, port: int) -> Address:
        return self._pods[pod.pod.name].ports.show(port)

    def disturb(
        self, pod: RunningPod, effect: NetworkEffect | Dns, direction: Direction, others: Sequence[RunningPod] | None
    ) -> LaidFault:
        addresses = None if others is None else [other.pod.status.pod_ip for other in others]
        if isinstance(effect, Dns):
            return self._dns_faults.lay(pod.pod.status.pod_ip, effect, direction, addresses)
        return self._pods[pod.pod.name].faults.lay(effect, direction, addresses)

    async def end_pods(self, grace_s: float) -> None:
        running = [placed.running for placed in self._pods.values() if placed.running is not None]
        await asyncio.gather(*(pod.stop(drain=False, grace_s=grace_s) for pod in running))

    async def close(self) -> None:
        self._keeper.cancel()
        for follower in self._followers:
            follower.close()
        self._control_up.cancel()
        self._resolver.close()
        self._forwards.close_all()
        if self._way_out is not None:
            self._way_out.close_all()
        await asyncio.to_thread(sweep, self._engine, self._own)
        (self._state / ENGINE_MARK).unlink(missing_ok=True)
        self._engine.close()

    async def _begin(self) -> None:
        """The control plane's network, and the mesh's DNS in it."""
        folder = self._folders.pod(_CONTROL) / "infra"
        await self._control.start(folder, rules="")
        if self._outside is not None:
            await self._open_way_out(self._outside)
        self.lacking = await self._engine.call(lacking, self._control)
        self.capabilities = frozenset(Capability) - self.lacking.keys()
        await self._resolver.start_on(await self._control.bound("udp", PORT), await self._control.bound("tcp", PORT))

    async def _open_way_out(self, outside: Infra) -> None:
        """This process is on the host itself, so it is who connects."""
        await outside.start(self._folders.pod(_OUTSIDE) / "infra", rules="")
        listening = {port: await outside.bound("tcp", port) for port in self._reachable}
        self._way_out = open_way_out(listening, functools.partial(connect, LOOPBACK), self._spawn)

    def _infra(self, pod: str, namespace: str, address: str, empty_dirs: Sequence[str] = ()) -> Infra:
        names = {"pod": pod, "namespace": namespace, "address": address}
        return Infra(self._engine, self._own, self._network, PROXY_IMAGE, **names, empty_dirs=empty_dirs)

    def _runtime(self, pod: Pod, infra: Infra, habitat: DockerHabitat, proxy: ProxyIds) -> PodRuntime:
        names = [container.name for container in pod.spec.all_containers]
        own = functools.partial(self._own.labels, namespace=pod.namespace, pod=pod.name)
        return PodRuntime(
            self._engine,
            infra,
            spec=pod.spec,
            labels={name: own(container=name) for name in names},
            names={name: self._own.name(pod.name, name) for name in names},
            etc={name: habitat.proxy_etc if name == PROXY_CONTAINER else habitat.etc for name in names},
            proxy=proxy,
        )

    def _forget(self, pod: ProcessPod) -> None:
        placed = self._pods.pop(pod.pod.name, None)
        if placed is not None:
            self._give_back(placed)

    def _give_back(self, placed: "_Placed") -> None:
        placed.faults.close()
        placed.ports.close()
        remove_volumes(placed.volumes)
        self._network.addresses.give_back(placed.infra.address)


class DockerPod(ProcessPod):
    """A pod whose containers are the engine's, and whose proxy has its files inside of its container."""

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

    def provide(self, files: Mapping[str, bytes]) -> None:
        self._runtime.provide(files)

    async def _clean_up(self) -> None:
        await self._runtime.remove()


class _HostPorts:
    """See `mesh.platforms.netns.forwards.Listens`: this process is on the host itself."""

    def listen(self, address: str, port: int) -> socket.socket:
        try:
            return socket.create_server((address, port), backlog=_BACKLOG)
        except OSError as error:
            raise PlatformError(port_taken(address, port, error.strerror or str(error))) from error


@dataclass(slots=True)
class _Placed:
    """What a pod has here."""

    infra: Infra
    ports: PodPorts
    faults: PodFaults
    volumes: Path
    running: DockerPod | None = None


def _no_rules(rules: str) -> None:
    raise AssertionError("faults of DNS are laid at the resolver")
