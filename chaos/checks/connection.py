"""Who gets into a pod by mutual TLS, and who is refused and why."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from chaos.checks.base import Context, Judge
from chaos.decode import Seconds
from chaos.tls_client import Attempt, attempt
from chaos.verdict import Verdict, judge
from chaos.waiting import wait_until
from chaos.wrong_certificates import Bearer, bearer
from mesh.client import Pod

CAPTURED = "0.0.0.0_15006"
"""Istio's `virtualInbound`, by its address."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A client of the harness's own connects straight to a port of each of the pods and sends one request.

    `as` says who it pretends to be. A refused client gets no response; it meets the TLS alert or the end of the
    connection that `reason` names, and adds to the proxy's `counter` (under `listener.<address>.`), where they are
    given. A port that does not listen, answer or speak TLS has refused nobody, and the check does not hold.
    """

    name: str
    pods: dict[str, str]
    as_: Bearer
    expect: Literal["accepted", "refused"]
    port: int = 9080
    path: str = "/health"
    reason: str = ""
    counter: str = ""
    identity: str = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage"
    within: Seconds = Seconds(5.0)

    def __post_init__(self) -> None:
        if self.expect == "accepted" and (self.reason or self.counter):
            raise ValueError("reason and counter are for refused clients")

    @property
    def title(self) -> str:
        """As the file names it."""
        return self.name

    def begin(self, context: Context) -> Judge:
        """No baseline: the counter is read right before each attempt."""
        return functools.partial(self._judge, context)

    def _judge(self, context: Context) -> Verdict:
        pods = context.pods(self.pods)
        made = [(pod, *self._attempt(context, pod)) for pod in pods]
        problems = [f"{pod.name}: {problem}" for pod, _, found in made for problem in found]
        ways = sorted({each.describe() for _, each, _ in made})
        counted = f", counted in {self.counter}" if self.counter else ""
        held = f"{self.as_} to {', '.join(pod.name for pod in pods)}: {', '.join(ways)}{counted}"
        return judge(self.name, problems, held, {"pods": [pod.name for pod in pods], "as": self.as_, "ways": ways})

    def _attempt(self, context: Context, pod: Pod) -> tuple[Attempt, list[str]]:
        before = self._count(context, pod) if self.counter else 0
        host, port = pod.reach(self.port)
        made = attempt(host, port, self.path, bearer(context.client, self.as_, self.identity), self.within)
        problems = self._problems(made)
        if self.counter and not wait_until(lambda: self._count(context, pod) > before, self.within):
            problems.append(f"listener.<address>.{self.counter} is still at {before}")
        return made, problems

    def _count(self, context: Context, pod: Pod) -> int:
        """A pod has one of two listeners: the port's own, or the one to which the kernel leads all that comes in."""
        addresses = f"{pod.ip}_{self.port}", CAPTURED
        return sum(context.stat(pod, f"listener.{address}.{self.counter}") for address in addresses)

    def _problems(self, made: Attempt) -> list[str]:
        if self.expect == "accepted":
            return [] if made.status == 200 else [f"{self.as_} was not served: {made.describe()}"]
        if made.status:
            return [f"{self.as_} was served with status {made.status}, and should have been refused"]
        if made.failed:
            return [f"{self.as_} was not refused: {made.describe()}"]
        if self.reason and made.refused != self.reason:
            return [f"{self.as_} was refused, but by {made.refused!r} rather than {self.reason!r}"]
        return []
