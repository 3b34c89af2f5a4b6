"""The `Drill` kind: what to lay over the mesh, under which load, and what must hold."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from chaos.checks import AnyCheck
from chaos.decode import Decoder, Manifest
from chaos.errors import BadDrill
from chaos.faults import AnyFault

_DNS_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Metadata:
    """Kubernetes' object metadata, as far as a drill has any."""

    name: str
    namespace: str = "default"
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # The name becomes a Fault's, and a folder's.
        for value in (self.name, self.namespace):
            if not _DNS_LABEL.fullmatch(value):
                raise ValueError(f"{value!r} is no name: at most 63 of a-z, 0-9 and -, with - neither first nor last")


@dataclass(frozen=True, slots=True)
class Load:
    """Locust users that browse during the whole drill; any status outside `expect` fails it.

    `users` browse `paths`, each about `rate` requests a second.
    """

    paths: tuple[str, ...]
    users: int = 2
    rate: float = 5.0
    expect: tuple[int, ...] = (200,)

    def __post_init__(self) -> None:
        if not 1 <= self.users <= 1000 or not 0 < self.rate <= 1000:
            raise ValueError("users lie between 1 and 1000, rate is more than 0 and at most 1000")
        if not self.paths or not all(path.startswith("/") for path in self.paths):
            raise ValueError("paths are a list of at least one, and each begins with /")


@dataclass(frozen=True, slots=True)
class Phase:
    """One overlay on the mesh, and the checks made while it lies there. Checks run in order.

    `faults` are done to pods, when all that `resources` bring is there.
    """

    name: str
    checks: tuple[AnyCheck, ...]
    resources: tuple[Manifest, ...] = ()
    deletions: tuple[Manifest, ...] = ()
    faults: tuple[AnyFault, ...] = ()


@dataclass(frozen=True, slots=True)
class DrillSpec:
    """`spec` of a Drill. `engines` names those that it can run on; on a mesh of another one it is skipped."""

    title: str
    phases: tuple[Phase, ...]
    about: str = ""
    load: Load | None = None
    engines: tuple[Literal["python", "envoy"], ...] = ("python", "envoy")

    def __post_init__(self) -> None:
        if not self.phases or not any(phase.checks for phase in self.phases):
            raise ValueError("a drill wants at least one phase with a check: with none it could not fail")


@dataclass(frozen=True, slots=True)
class Drill:
    """A whole drill file's document."""

    api_version: Literal["meshdrill.dev/v1alpha1"]
    kind: Literal["Drill"]
    metadata: Metadata
    spec: DrillSpec

    @property
    def name(self) -> str:
        """The drill's name."""
        return self.metadata.name

    def fault_name(self, index: int) -> str:
        """The name of the Fault that phase lays over the mesh."""
        letters = (c if c.isascii() and c.isalnum() else " " for c in self.spec.phases[index].name.lower())
        return "-".join([self.name, str(index + 1), *"".join(letters).split()])[:200].rstrip("-")

    def resources(self, index: int) -> tuple[Manifest, ...]:
        """All that a phase lays over the mesh, its faults as PodFaults."""
        phase, name = self.spec.phases[index], self.fault_name(index)
        named = ((f"{name}-{number}", fault) for number, fault in enumerate(phase.faults, start=1))
        return (*phase.resources, *(fault.manifest(own, self.metadata.namespace) for own, fault in named))


def load(path: Path) -> list[Drill]:
    """All drills of a file; raises BadDrill with every problem, or when there is none in it."""
    try:
        text = path.read_text()
    except OSError as error:
        raise BadDrill([f"{path}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise BadDrill([f"{path}: not UTF-8 text"]) from error
    return decode(text, str(path))


def decode(text: str, file: str) -> list[Drill]:
    """All drills of a text, named `file` in problems."""
    decoder = Decoder(file)
    nodes = decoder.documents(text)
    for node in nodes:
        _check_kind(decoder, node)
    if decoder.problems:  # of what is no drill, no field is worth a word
        raise BadDrill(decoder.problems)
    drills = [decoder.record(node, Drill, "$") for node in nodes]
    if decoder.problems:
        raise BadDrill(decoder.problems)
    if not drills:
        raise BadDrill([f"{file}: no drill in it"])
    return drills


def _check_kind(decoder: Decoder, node: yaml.Node) -> None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    said = {key.value: value for key, value in pairs if isinstance(key, yaml.ScalarNode)}
    kind = said.get("kind")
    if isinstance(kind, yaml.ScalarNode) and kind.value != "Drill":
        decoder.refuse(kind, "$.kind", f"this is a {kind.value}, and a Drill is wanted")


BUILT_IN = Path(__file__).with_name("drills")


def built_in() -> list[Drill]:
    """The drills that a demo runs, in its order. They want nothing that does not come with Meshdrill."""
    return [drill for name in _order() for drill in load(BUILT_IN / f"{name}.yaml")]


def known() -> list[Drill]:
    """All drills that come with Meshdrill: the demo's, then those that want more of the machine."""
    others = sorted({path.stem for path in BUILT_IN.glob("*.yaml")} - {*_order(), "order"})
    return [*built_in(), *(drill for name in others for drill in load(BUILT_IN / f"{name}.yaml"))]


def _order() -> list[str]:
    names: list[str] = yaml.safe_load((BUILT_IN / "order.yaml").read_text())
    return names
