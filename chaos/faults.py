"""What a drill does to pods: to their network, names and processes.

Each becomes a PodFault of the mesh, laid by the phase's Fault: so it ends with the phase, or with the lease of a
harness that was killed. Words are Chaos Mesh's where it has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from chaos.checks.base import as_selector
from chaos.decode import Manifest, Seconds

Direction: TypeAlias = Literal["to", "from", "both"]
_WAYS = {"to": "to", "from": "from", "both": "both ways with"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OnPods:
    """`selector` are labels of the pods that it is done to."""

    KIND: ClassVar[str]

    selector: dict[str, str]

    def __post_init__(self) -> None:
        if not self.selector:
            raise ValueError("the selector must select something")

    def effect(self) -> dict[str, Any]:
        """The effect's fields, as the API writes them."""
        return {}

    def traffic(self) -> dict[str, Any]:
        """The fields that say which traffic is meant."""
        return {}

    @property
    def title(self) -> str:
        """What reports call it."""
        details = [f"{name} {_shown(value)}" for name, value in self.effect().items() if value]
        return " ".join((self.KIND, *details, "on", as_selector(self.selector))) + self.whom()

    def whom(self) -> str:
        """The title's end."""
        return ""

    def manifest(self, name: str, namespace: str) -> Manifest:
        """The resource, for the mesh to lay."""
        metadata = {"name": name, "namespace": namespace}
        spec = {"selector": {"matchLabels": self.selector}, **self.traffic(), self.KIND: self.effect()}
        manifest = Manifest(apiVersion="meshdrill.dev/v1alpha1", kind="PodFault", metadata=metadata, spec=spec)
        manifest.place = f"fault {self.title}"
        return manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class OnTraffic(OnPods):
    """On what those pods exchange with the pods of `target`, or with all but the node: what they send (`to`), receive
    (`from`), or `both`."""

    target: dict[str, str] = field(default_factory=dict)
    direction: Direction = "to"

    def traffic(self) -> dict[str, Any]:
        """The target and the direction."""
        target = {"target": {"matchLabels": self.target}} if self.target else {}
        return target | {"direction": self.direction}

    def whom(self) -> str:
        """Which traffic."""
        return f", {_WAYS[self.direction]} {as_selector(self.target) if self.target else 'all pods'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition(OnTraffic):
    """Every packet is dropped."""

    KIND: ClassVar[str] = "partition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay(OnTraffic):
    """Each packet waits, give or take as much as `jitter`."""

    KIND: ClassVar[str] = "delay"

    latency: Seconds
    jitter: Seconds = Seconds(0.0)

    def effect(self) -> dict[str, Any]:
        """The effect's fields."""
        return {"latency": _milliseconds(self.latency), "jitter": _milliseconds(self.jitter)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss(OnTraffic):
    """So many packets of a hundred are dropped."""

    KIND: ClassVar[str] = "loss"

    percent: float

    def effect(self) -> dict[str, Any]:
        """The effect's fields."""
        return {"percent": self.percent}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth(OnTraffic):
    """`rate` in bits a second."""

    KIND: ClassVar[str] = "bandwidth"

    rate: int

    def effect(self) -> dict[str, Any]:
        """The effect's fields."""
        return {"rate": self.rate}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(OnTraffic):
    """Connections are reset, and new ones refused."""

    KIND: ClassVar[str] = "reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns(OnPods):
    """Names that one of `patterns` matches, or all, are answered so."""

    KIND: ClassVar[str] = "dns"

    answer: Literal["SERVFAIL", "NXDOMAIN", "TIMEOUT"] = "SERVFAIL"
    patterns: tuple[str, ...] = ()

    def effect(self) -> dict[str, Any]:
        """The effect's fields."""
        return {"answer": self.answer, "patterns": list(self.patterns)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(OnPods):
    """The processes of a container stand still; of all but the sidecar, where none is named."""

    KIND: ClassVar[str] = "pause"

    container: str = ""

    def effect(self) -> dict[str, Any]:
        """The effect's fields."""
        return {"container": self.container}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill(Pause):
    """They are killed, once."""

    KIND: ClassVar[str] = "kill"


AnyFault: TypeAlias = Partition | Delay | Loss | Bandwidth | Reset | Dns | Pause | Kill


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.15g}ms"


def _shown(value: object) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)
