"""What every check has to hand, and how it takes part in a phase."""

from __future__ import annotations

import re
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from chaos.errors import CannotMeasure
from chaos.verdict import Verdict
from mesh.client import MeshClient, Pod

Judge = Callable[[], Verdict]
"""Makes the measurement that a check announced, and judges it."""

POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Context:
    """What a check may use: the mesh's API, the URL of its edge, a seed, and a line of progress."""

    client: MeshClient
    gateway: str
    seed: str
    progress: Callable[[str], None]

    def pods(self, labels: Mapping[str, str]) -> list[Pod]:
        """Ready pods with those labels; CannotMeasure where there is none, for a check over no pod cannot fail."""
        pods = [pod for pod in self.client.pods(labels=labels) if pod.ready]
        if not pods:
            raise CannotMeasure(f"no ready pod has the labels {as_selector(labels)}")
        return pods

    def stat(self, pod: Pod, name: str) -> int:
        """A counter or gauge of a pod's proxy by Envoy's full name; 0 where the proxy has not used it yet."""
        query = urllib.parse.urlencode({"filter": f"^{re.escape(name)}$"})
        for line in self.client.admin(pod, f"/stats?{query}").splitlines():
            found, _, value = line.rpartition(": ")
            if found == name and value.isdigit():
                return int(value)
        return 0


class Check(Protocol):
    """A check of a drill file. Frozen; all state is in what `begin` returns."""

    def begin(self, context: Context) -> Judge:
        """Called for all checks of a phase before any is judged, so that a baseline covers the whole phase."""


def wait_until(holds: Callable[[], bool], within_s: float, what: str) -> None:
    """Polls until the condition holds; CannotMeasure naming `what` when the time is up."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise CannotMeasure(f"{what}: not within {within_s:g} s")
        time.sleep(POLL_S)


def as_selector(labels: Mapping[str, str]) -> str:
    """Labels as kubectl writes a selector."""
    return ",".join(f"{name}={value}" for name, value in labels.items())
