"""What every check has to hand, and how it takes part in a phase."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from chaos.errors import CannotMeasure
from chaos.verdict import Verdict
from mesh.client import MeshClient, Pod

Judge = Callable[[], Verdict]
"""Makes the measurement that a check announced, and judges it."""


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

    def one_pod(self, labels: Mapping[str, str]) -> Pod:
        """The only ready pod with those labels; CannotMeasure where there are more, whose states would add up."""
        pods = self.pods(labels)
        if len(pods) > 1:
            raise CannotMeasure(f"{len(pods)} ready pods have the labels {as_selector(labels)}, and one is wanted")
        return pods[0]

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

    @property
    def title(self) -> str:
        """What reports call it, whether it could be measured or not."""

    def begin(self, context: Context) -> Judge:
        """Called for all checks of a phase before any is judged, so that a baseline covers the whole phase."""


def as_selector(labels: Mapping[str, str]) -> str:
    """Labels as kubectl writes a selector."""
    return ",".join(f"{name}={value}" for name, value in labels.items())
