"""Mutual TLS: who gets into a pod, who is refused and why, and rotation of certificates."""

from __future__ import annotations

import datetime
import functools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from chaos.checks.base import Context, Judge, wait_until
from chaos.decode import Seconds
from chaos.tls_client import Attempt, attempt
from chaos.verdict import Verdict, judge
from chaos.wrong_certificates import Bearer, bearer
from mesh.client import Pod

Reason = Literal["connection reset", "unknown authority", "certificate expired", "refused after handshake", "any"]


@dataclass(frozen=True, slots=True)
class Connection:
    """A client of the harness's own connects straight to a pod's port and sends one request.

    `as` says who it pretends to be. A refused client gets no response, meets `reason` on its side (the TLS alert, or
    how the connection ended), and adds to the proxy's `counter` (under `listener.<address>.`), where one is named.
    """

    name: str
    pods: dict[str, str]
    as_: Bearer
    expect: Literal["accepted", "refused"]
    port: int = 9080
    path: str = "/health"
    reason: Reason = "any"
    counter: str = ""
    identity: str = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage"
    within: Seconds = Seconds(5.0)

    def begin(self, context: Context) -> Judge:
        """No baseline: the counter is read right before the attempt."""
        return functools.partial(self._judge, context)

    def _judge(self, context: Context) -> Verdict:
        [pod, *_] = context.pods(self.pods)
        counter = f"listener.{pod.ip}_{self.port}.{self.counter}"
        before = context.stat(pod, counter) if self.counter else 0
        made = attempt(pod.ip, self.port, self.path, bearer(context.client, self.as_, self.identity), self.within)
        problems = self._problems(made)
        if self.counter and not problems:
            wait_until(lambda: context.stat(pod, counter) > before, self.within, f"{counter} above {before}")
        held = f"{self.as_} to {pod.name}: {made.describe()}" + (f", counted in {self.counter}" if self.counter else "")
        return judge(
            self.name, problems, held, {"pod": pod.name, "as": self.as_, "status": made.status, "reason": made.reason}
        )

    def _problems(self, made: Attempt) -> list[str]:
        if self.expect == "accepted":
            return [] if made.status == 200 else [f"{self.as_} was not served: {made.describe()}"]
        if made.status:
            return [f"{self.as_} was served with status {made.status}, and should have been refused"]
        if self.reason not in ("any", made.reason):
            return [f"{self.as_} was refused, but for {made.reason!r} rather than {self.reason!r}"]
        return []


@dataclass(frozen=True, slots=True)
class Rotation:
    """Every pod gets a new certificate when asked, and its proxy serves it, within a time. Load goes on meanwhile."""

    pods: dict[str, str] = field(default_factory=dict)
    within: Seconds = Seconds(20.0)

    def begin(self, context: Context) -> Judge:
        """No baseline: serial numbers are read right before the rotation."""
        return functools.partial(self._judge, context)

    def _judge(self, context: Context) -> Verdict:
        pods = context.pods(self.pods)
        before = {pod.name: _serials(context, pod) for pod in pods}
        problems = [f"{name} serves no certificate" for name, serials in before.items() if not serials]
        start = time.monotonic()
        for pod in pods:
            _ask(context, pod)
        for pod in pods:
            wait_until(
                functools.partial(_has_changed, context, pod, before[pod.name]),
                self.within,
                f"new certificate at {pod.name}",
            )
        took = time.monotonic() - start
        held = f"{len(pods)} pods serve a new certificate after {took:.1f} s"
        return judge("certificate rotation", problems, held, {"pods": len(pods), "seconds": round(took, 2)})


def _ask(context: Context, pod: Pod) -> None:
    manifest = context.client.get("Pod", pod.name, pod.namespace)
    stamp = datetime.datetime.now(datetime.UTC).isoformat()
    manifest["metadata"].setdefault("annotations", {})["meshdrill.dev/rotate-requested-at"] = stamp
    del manifest["metadata"]["resourceVersion"]
    context.client.replace(manifest)


def _serials(context: Context, pod: Pod) -> frozenset[str]:
    """Serial numbers of the workload certificates that a proxy has loaded (Envoy's /certs)."""
    certificates: list[Mapping[str, list[Mapping[str, str]]]] = json.loads(context.client.admin(pod, "/certs"))[
        "certificates"
    ]
    return frozenset(leaf["serial_number"] for entry in certificates for leaf in entry.get("cert_chain", []))


def _has_changed(context: Context, pod: Pod, before: frozenset[str]) -> bool:
    now = _serials(context, pod)
    return bool(now) and not now & before
