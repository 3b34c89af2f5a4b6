"""Whether PodFaults lie on their pods, as the pods' conditions tell."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from chaos.checks.base import as_selector
from chaos.errors import CannotMeasure
from chaos.waiting import wait_until
from mesh.client import POD_FAULT_CONDITION, Manifest, MeshClient, Pod

IN_FORCE_S = 10.0
GONE_S = 30.0


def needed(manifests: Sequence[Manifest]) -> set[str]:
    """The capabilities that the PodFaults among these manifests ask of the platform."""
    ours = [manifest["spec"] for manifest in manifests if manifest["kind"] == "PodFault"]
    return {name for spec in ours for name in spec if name not in ("selector", "target", "direction")}


def await_in_force(client: MeshClient, faults: Sequence[Manifest]) -> None:
    """Until each lies on all pods that it selects. Raises CannotMeasure when one does not, with the reason."""
    for fault in faults:
        name, namespace = _names(fault)
        uid = client.get("PodFault", name, namespace)["metadata"]["uid"]
        labels = fault["spec"]["selector"]["matchLabels"]
        if not wait_until(functools.partial(_lies, client, fault, uid), IN_FORCE_S):
            why = _why(_pods(client, fault), name, uid)
            raise CannotMeasure(f"the fault {name} does not lie on the pods {as_selector(labels)}: {why}")


def await_gone(client: MeshClient, faults: Sequence[Manifest]) -> None:
    """Until no pod has any of them, and their pods are ready. Raises CannotMeasure when that does not come about."""
    for fault in faults:
        if not wait_until(functools.partial(_is_over, client, fault), GONE_S):
            name, _ = _names(fault)
            raise CannotMeasure(f"{GONE_S:g} s after the fault {name} was lifted, its pods are not as before")


def _is_over(client: MeshClient, fault: Manifest) -> bool:
    name, _ = _names(fault)
    return all(pod.ready and _told(pod, name) is None for pod in _pods(client, fault))


def _lies(client: MeshClient, fault: Manifest, uid: str) -> bool:
    name, _ = _names(fault)
    told = [_told(pod, name) for pod in _pods(client, fault)]
    return bool(told) and all(
        condition is not None and condition["status"] == "True" and condition["message"].startswith(f"{uid}:")
        for condition in told
    )


def _why(pods: Sequence[Pod], name: str, uid: str) -> str:
    """What the first pod that is without it says."""
    if not pods:
        return "there is no such pod"
    for pod in pods:
        condition = _told(pod, name)
        if condition is not None and condition["message"].startswith(f"{uid}:") and condition["status"] != "True":
            return str(condition["message"]).removeprefix(f"{uid}: ")
    return f"not within {IN_FORCE_S:g} s; see `meshdrill logs`"


def _pods(client: MeshClient, fault: Manifest) -> list[Pod]:
    _, namespace = _names(fault)
    labels = fault["spec"]["selector"]["matchLabels"]
    return list(client.pods(namespace=namespace, labels=labels))


def _told(pod: Pod, name: str) -> Manifest | None:
    conditions: list[Manifest] = pod.manifest.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == f"{POD_FAULT_CONDITION}/{name}"), None)


def _names(fault: Manifest) -> tuple[str, str]:
    return fault["metadata"]["name"], fault["metadata"].get("namespace", "default")
