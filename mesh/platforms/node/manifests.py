"""Pod objects as the node writes them. Pure."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mesh.api.pod import Container, ContainerStatus
from mesh.client.types import POD_FAULT_CONDITION
from mesh.config.encode import encode

Manifest = dict[str, Any]

HASH_LABEL = "pod-template-hash"

_NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # Kubernetes' own: no vowels, so that no words come out


@dataclass(frozen=True, slots=True)
class FaultState:
    """A PodFault on a pod, by name and uid: in force, or refused and why. `since` is RFC 3339."""

    name: str
    uid: str
    refusal: str = ""
    since: str = ""


def pod_name(deployment: str, template: str, rng: random.Random) -> str:
    """`reviews-v1-0a1b2c3d4e-x7k2p`."""
    return f"{deployment}-{template}-{''.join(rng.choices(_NAME_LETTERS, k=5))}"


def pod_manifest(deployment: Mapping[str, Any], template: Mapping[str, Any], name: str, hash_: str) -> Manifest:
    """A Pod of this Deployment from its injected template, with no status yet."""
    meta = template.get("metadata") or {}
    owner = deployment["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": owner["namespace"],
            "labels": {**(meta.get("labels") or {}), HASH_LABEL: hash_},
            "annotations": dict(meta.get("annotations") or {}),
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": owner["name"],
                    "uid": owner.get("uid", ""),
                    "controller": True,
                }
            ],
        },
        "spec": template["spec"],
    }


def pod_status(
    address: str,
    containers: Sequence[ContainerStatus],
    inits: Sequence[ContainerStatus] = (),
    *,
    restart: str = "Always",
    stopping: bool,
    since: Mapping[str, str],
    started: str,
    faults: Sequence[FaultState] = (),
) -> Manifest:
    """`since` is when each condition last changed. A pod that stops is not ready, whatever its containers say."""
    ready = bool(containers) and all(container.ready for container in containers) and not stopping
    reason = "PodStopping" if stopping else "" if ready else "ContainersNotReady"
    message = "" if ready else not_ready_text(containers)
    conditions = [
        _initialized(inits, since),
        _condition("Ready", ready, since, reason, message),
        _condition("ContainersReady", ready, since, reason, message),
        *map(_fault, faults),
    ]
    return {
        "phase": _phase(containers) if is_through(inits) else _phase_of_initialising(inits, restart),
        **({"podIP": address, "podIPs": [{"ip": address}]} if address else {}),
        "hostIP": "127.0.0.1",
        "startTime": started,
        "conditions": conditions,
        **({"initContainerStatuses": [_container(container) for container in inits]} if inits else {}),
        "containerStatuses": [_container(container) for container in containers],
    }


def is_through(inits: Sequence[ContainerStatus]) -> bool:
    """Whether all init containers have succeeded."""
    return all(container.ready for container in inits)


def refused_containers(containers: Sequence[Container], why: str) -> tuple[ContainerStatus, ...]:
    """The statuses in a pod that the platform cannot run."""
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": why}}
    return tuple(ContainerStatus(name=container.name, state=state) for container in containers)


def not_ready_text(containers: Sequence[ContainerStatus]) -> str:
    """`containers with unready status: [reviews: CrashLoopBackOff]`."""
    unready = [f"{c.name}: {state_word(c)}" for c in containers if not c.ready]
    return f"containers with unready status: [{', '.join(unready)}]" if unready else ""


def state_word(container: ContainerStatus) -> str:
    """`Running`, or the reason why it is not, as `kubectl get pods` shows it."""
    for kind, detail in container.state.items():
        if kind == "running":
            return "Running"
        return str(detail.get("reason") or kind.capitalize())
    return "Unknown"


def now_text() -> str:
    """RFC 3339, UTC, whole seconds, as Kubernetes writes times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _condition(kind: str, holds: bool, since: Mapping[str, str], reason: str, message: str) -> Manifest:
    condition = {"type": kind, "status": "True" if holds else "False", "lastTransitionTime": since[kind]}
    return condition | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})


def _initialized(inits: Sequence[ContainerStatus], since: Mapping[str, str]) -> Manifest:
    incomplete = [container.name for container in inits if not container.ready]
    reason = "ContainersNotInitialized" if incomplete else ""
    message = f"containers with incomplete status: [{' '.join(incomplete)}]" if incomplete else ""
    return _condition("Initialized", not incomplete, since, reason, message)


def _fault(fault: FaultState) -> Manifest:
    return {
        "type": f"{POD_FAULT_CONDITION}/{fault.name}",
        "status": "False" if fault.refusal else "True",
        "lastTransitionTime": fault.since,
        "reason": "Refused" if fault.refusal else "InForce",
        "message": f"{fault.uid}: {fault.refusal or 'it lies on this pod'}",
    }


def _container(status: ContainerStatus) -> Manifest:
    """With the fields that Kubernetes always writes, also where they are false or nought."""
    always = {"ready": status.ready, "restartCount": status.restart_count}
    return {**always, **encode(status)}


def _phase_of_initialising(inits: Sequence[ContainerStatus], restart: str) -> str:
    return "Failed" if restart == "Never" and any("terminated" in c.state and not c.ready for c in inits) else "Pending"


def _phase(containers: Sequence[ContainerStatus]) -> str:
    if any("running" in c.state or c.restart_count for c in containers):
        return "Running"
    if containers and all("terminated" in c.state for c in containers):
        failed = any(c.state["terminated"]["exitCode"] for c in containers)
        return "Failed" if failed else "Succeeded"
    return "Pending"
