"""What is done to pods from outside: to their network, their names, their processes (`meshdrill.dev/v1alpha1`).

Words are Chaos Mesh's where it has them (NetworkChaos, DNSChaos, PodChaos).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar, TypeAlias

from mesh.api.fields import IstioStatus
from mesh.api.meta import Resource, WorkloadSelector


class Direction(StrEnum):
    """Which packets, as seen from the selected pods: those sent, those received, or both."""

    TO = "to"
    FROM = "from"
    BOTH = "both"


class DnsAnswer(StrEnum):
    """What a question gets: an answer's code, or none at all until the asker gives up."""

    SERVFAIL = "SERVFAIL"
    NXDOMAIN = "NXDOMAIN"
    TIMEOUT = "TIMEOUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Every packet is dropped, without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Each packet waits for `latency`, give or take as much as `jitter`. Their order stays."""

    latency: timedelta
    jitter: timedelta = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """That many packets of a hundred are dropped, each by chance."""

    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """`rate` is in bits a second, of whole IP packets; each direction has as much."""

    rate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Each TCP packet is answered with a reset, so connections end, and new ones are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """The pod's questions for names that one of `patterns` matches (`*` and `?`; all names where there is none)."""

    answer: DnsAnswer = DnsAnswer.SERVFAIL
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """All processes of a container stand still; without `container`, of every container but the sidecar."""

    container: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """SIGKILL, once, to all processes of a container; without `container`, of every container but the sidecar."""

    container: str = ""


NetworkEffect: TypeAlias = Partition | Delay | Loss | Bandwidth | Reset
Effect: TypeAlias = NetworkEffect | Dns | Pause | Kill
EFFECTS = ("partition", "delay", "loss", "bandwidth", "reset", "dns", "pause", "kill")
TRAFFIC = EFFECTS[:5]
"""Those that are about packets, and so have a direction and may have a target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFaultSpec:
    """Exactly one effect, on all pods of the fault's namespace that `selector` selects.

    `target` are the pods of the same namespace with which traffic is disturbed; without it, all that the selected pods
    exchange with anybody but the node (DNS and the control plane).
    """

    ONEOFS: ClassVar[tuple[tuple[str, ...], ...]] = (EFFECTS,)

    selector: WorkloadSelector
    target: WorkloadSelector | None = None
    direction: Direction = Direction.TO
    partition: Partition | None = None
    delay: Delay | None = None
    loss: Loss | None = None
    bandwidth: Bandwidth | None = None
    reset: Reset | None = None
    dns: Dns | None = None
    pause: Pause | None = None
    kill: Kill | None = None

    @property
    def kind(self) -> str:
        """The name of the effect; empty where there is none."""
        return next((name for name in EFFECTS if getattr(self, name) is not None), "")

    @property
    def effect(self) -> Effect:
        effect: Effect = getattr(self, self.kind)
        return effect


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFault(Resource):
    """Lasts as long as the object is there; laid by a Fault, as long as that one's lease."""

    KIND: ClassVar[str] = "PodFault"

    spec: PodFaultSpec
    status: IstioStatus = field(default_factory=dict)
