"""What every platform offers to the node and to drills. The node reconciles; a platform only runs what it is told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from signal import Signals
from typing import Protocol

from mesh.api.core import ConfigMap, Secret, Service
from mesh.api.pod import ContainerStatus, Pod
from mesh.api.pod_fault import Direction, Dns, NetworkEffect
from mesh.client import MeshClient

PROXY_CONTAINER = "istio-proxy"
APP_PORTS_ANNOTATION = "meshdrill.dev/app-ports"


MAX_OUTPUT = 1024 * 1024
"""Bytes of a command's output that `exec` hands on."""


class PlatformError(Exception):
    """A pod or a mesh cannot run here; the text says why and what to do."""


def port_taken(address: str, port: int, why: str) -> str:
    """What a PlatformError says of a port of this host."""
    return (
        f"port {port} of {address}, which the ingress gateway needs, cannot be had ({why}): "
        f"end what listens there, or choose another one with --port"
    )


class Capability(StrEnum):
    """What a fault may ask of a platform. A drill that needs one that is missing is skipped, and says so."""

    SIGNAL = "signal"
    PAUSE = "pause"
    KILL = "kill"
    EXEC = "exec"
    FORWARD = "forward"
    PARTITION = "partition"
    DELAY = "delay"
    LOSS = "loss"
    BANDWIDTH = "bandwidth"
    RESET = "reset"
    DNS = "dns"


ON_PROCESSES = frozenset({Capability.SIGNAL, Capability.PAUSE, Capability.KILL, Capability.EXEC, Capability.FORWARD})
ON_NETWORK = frozenset(Capability) - ON_PROCESSES


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of its namespace a container's environment is made from."""

    services: Sequence[Service] = ()
    config_maps: Mapping[str, ConfigMap] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExecResult:
    """`output` is standard output and standard error together, at most 1 MiB."""

    code: int
    output: str


class RunningPod(Protocol):
    """A pod that has an address here. Methods that take a container's name raise PlatformError for an unknown one."""

    @property
    def pod(self) -> Pod:
        """The pod with what the platform assigned: annotations and `status.podIP`."""

    def provide(self, files: Mapping[str, bytes]) -> None:
        """Puts files (0600) into the working folder of the pod's proxy, each at once and whole."""

    async def initialise(self) -> bool:
        """Runs the init containers, each until it has succeeded before the next one. False when one has failed for
        good, and when the pod was stopped meanwhile."""

    def start(self, containers: Sequence[str]) -> None:
        """Starts these containers and keeps them running as the pod's restart policy says."""

    def statuses(self) -> tuple[ContainerStatus, ...]:
        """Of the containers that run as long as the pod does."""

    def init_statuses(self) -> tuple[ContainerStatus, ...]:
        """Of the init containers, in their order."""

    def signal(self, container: str, sig: Signals) -> None:
        """Sends a signal to a container's main process. Nothing happens while it is down."""

    def pause(self, container: str) -> None:
        """Stops all processes of a container in their tracks, until `resume`."""

    def resume(self, container: str) -> None: ...

    def kill(self, container: str) -> None:
        """SIGKILL to all processes of a container; it comes back as the restart policy says."""

    async def exec(self, container: str, command: Sequence[str], timeout_s: float) -> ExecResult:
        """Runs a command with the container's environment. Raises TimeoutError."""

    async def stop(self, *, drain: bool, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after `grace_s`. With `drain` the proxy ends first, so that calls in flight complete."""


class LaidFault(Protocol):
    """A fault that lies on a pod until it is lifted."""

    def lift(self) -> None:
        """Everything of it is gone when this returns. Nothing happens the second time."""


class Places(Protocol):
    """Whoever gives pods a place."""

    def place(self, pod: Pod, surroundings: Surroundings, on_change: Callable[[], None]) -> RunningPod:
        """Gives the pod an address and a folder; starts nothing. `on_change` is called when a status changes.

        Raises PlatformError when this platform cannot run the pod.
        """


class Platform(Places, Protocol):
    """Where pods run. `lacking` says of each capability that is not among `capabilities` why."""

    name: str
    capabilities: frozenset[Capability]
    lacking: Mapping[Capability, str]

    @property
    def control_address(self) -> str:
        """The address that the control plane binds."""

    def claim(self, port: int) -> None:
        """Makes sure of a port of 127.0.0.1 on this host for a pod to come. Raises PlatformError."""

    def reach_control(self, port: int) -> tuple[str, int]:
        """An address on this host that reaches `port` of the control plane."""

    def follow(self, client: MeshClient) -> None:
        """From now on the control plane answers, and says what names the pods are to find."""

    def log(self, pod: str, container: str) -> Path:
        """The file with the container's output."""

    def forward(self, pod: RunningPod, port: int) -> tuple[str, int]:
        """An address on this host that reaches `port` of the pod."""

    def disturb(
        self, pod: RunningPod, effect: NetworkEffect | Dns, direction: Direction, others: Sequence[RunningPod] | None
    ) -> LaidFault:
        """Lays a fault on what the pod exchanges with `others`, or with all but the node. Ends with the pod at last.

        Raises PlatformError, also for what is in `lacking`.
        """

    async def end_pods(self, grace_s: float) -> None:
        """Ends all pods at once, with no drain."""

    async def close(self) -> None:
        """Ends whatever is left of what this platform started, and gives its addresses back."""
