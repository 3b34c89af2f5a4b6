"""Rotation of certificates while traffic flows."""

from __future__ import annotations

import datetime
import functools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from chaos.checks.base import Context, Judge
from chaos.decode import Seconds
from chaos.errors import CannotMeasure
from chaos.verdict import Verdict, judge
from chaos.waiting import wait_until
from mesh.client import ApiError, Pod

ASK = "meshdrill.dev/rotate-requested-at"
ASK_S = 5.0


@dataclass(frozen=True, slots=True)
class Rotation:
    """Every pod gets a new certificate when asked, and its proxy serves it and no older one, all within a time."""

    pods: dict[str, str] = field(default_factory=dict)
    within: Seconds = Seconds(20.0)

    @property
    def title(self) -> str:
        """The same for all."""
        return "certificate rotation"

    def begin(self, context: Context) -> Judge:
        """No baseline: serial numbers are read right before the rotation."""
        return functools.partial(self._judge, context)

    def _judge(self, context: Context) -> Verdict:
        pods = context.pods(self.pods)
        before = {pod.uid: _serials(context, pod) for pod in pods}
        start = time.monotonic()
        for pod in pods:
            _ask(context, pod)
        problems = []
        for pod in pods:
            left = self.within - (time.monotonic() - start)
            if not wait_until(functools.partial(_has_changed, context, pod, before[pod.uid]), left):
                problems.append(f"{pod.name} serves its old certificate after {self.within:g} s")
        took = time.monotonic() - start
        held = f"{len(pods)} pods serve a new certificate after {took:.1f} s"
        return judge(self.title, problems, held, {"pods": len(pods), "rotated_after_s": round(took, 2)})


def _ask(context: Context, pod: Pod) -> None:
    """Annotates the Pod, again where its node wrote it at the same time."""
    refused: list[ApiError] = []

    def is_written() -> bool:
        manifest = context.client.get("Pod", pod.name, pod.namespace)
        stamp = datetime.datetime.now(datetime.UTC).isoformat()
        manifest["metadata"]["annotations"] = manifest["metadata"].get("annotations", {}) | {ASK: stamp}
        # The status is the node's; without it, what the store has stays.
        manifest.pop("status", None)
        try:
            context.client.replace(manifest)
        except ApiError as error:
            if error.status != 409:
                raise
            refused.append(error)
            return False
        return True

    if not wait_until(is_written, ASK_S):
        raise CannotMeasure(f"pod {pod.name} could not be annotated: {refused[-1]}")


def _serials(context: Context, pod: Pod) -> frozenset[str]:
    """Serial numbers of the workload certificates that a proxy has loaded (Envoy's /certs)."""
    certificates: list[Mapping[str, list[Mapping[str, str]]]] = json.loads(context.client.admin(pod, "/certs"))[
        "certificates"
    ]
    serials = frozenset(leaf["serial_number"] for entry in certificates for leaf in entry.get("cert_chain", []))
    if not serials:
        raise CannotMeasure(f"{pod.name} serves no certificate")
    return serials


def _has_changed(context: Context, pod: Pod, before: frozenset[str]) -> bool:
    return not _serials(context, pod) & before
