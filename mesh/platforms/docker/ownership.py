"""Whose a container, network or image is: names and labels. Pure."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PREFIX = "meshdrill.dev/"
MESH, STATE, OWNER, RUN = f"{PREFIX}mesh", f"{PREFIX}state", f"{PREFIX}owner", f"{PREFIX}run"
NAMESPACE, POD, CONTAINER = f"{PREFIX}namespace", f"{PREFIX}pod", f"{PREFIX}container"

INFRA = "POD"
"""The container that owns a pod's namespaces; the name is the kubelet's."""

_MAX_HOST_NAME = 63
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class Ownership:
    """One mesh of one user. `state` stands for its state folder, by which meshes of the same name are told apart; `run`
    for one life of the mesh, and when empty for all of them."""

    state: str
    owner: int
    mesh: str = ""
    run: str = ""

    @classmethod
    def of(cls, folder: Path, *, mesh: str = "", run: str = "") -> "Ownership":
        return cls(state_id(folder), os.getuid(), mesh, run)

    def labels(self, *, namespace: str = "", pod: str = "", container: str = "") -> dict[str, str]:
        given = {
            MESH: self.mesh,
            STATE: self.state,
            OWNER: str(self.owner),
            RUN: self.run,
            NAMESPACE: namespace,
            POD: pod,
            CONTAINER: container,
        }
        return {label: value for label, value in given.items() if value}

    def covers(self, labels: Mapping[str, str] | None) -> bool:
        """Whether what bears these labels is this mesh's. The mesh's name does not count: it may have been changed."""
        if labels is None or self.run not in ("", labels.get(RUN)):
            return False
        return (labels.get(STATE), labels.get(OWNER)) == (self.state, str(self.owner))

    @property
    def filters(self) -> dict[str, list[str]]:
        """For the engine's lists, which may answer more than was asked (`covers` decides)."""
        return {"label": [f"{STATE}={self.state}", f"{OWNER}={self.owner}"]}

    def name(self, *parts: str) -> str:
        """A name that no other mesh of this machine uses."""
        words = ("meshdrill", self.state[:8], *parts)
        return "-".join(_NOT_IN_NAMES.sub("_", word) for word in words if word)


def state_id(folder: Path) -> str:
    """The same however the folder is spelt."""
    return hashlib.sha256(os.path.realpath(folder).encode()).hexdigest()[:16]


def host_name(pod: str) -> str:
    """Linux takes 64 bytes; a longer pod's name is cut, as the kubelet cuts it."""
    return pod[:_MAX_HOST_NAME].rstrip("-.")
