"""Which columns `get` shows of each kind. Pure."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from mesh.cli.tables import age

_INITIALISING = "PodInitializing"

Manifest = dict[str, Any]
Cells = Callable[[Manifest], list[object]]


def row(kind: str, manifest: Manifest, now: datetime) -> list[object]:
    """One object's cells, in the order of `headers`."""
    _, cells = _COLUMNS.get(kind, _NONE)
    meta = manifest["metadata"]
    return [meta["name"], *cells(manifest), age(meta.get("creationTimestamp"), now)]


def headers(kind: str) -> list[str]:
    names, _ = _COLUMNS.get(kind, _NONE)
    return ["NAME", *names, "AGE"]


def pod_word(manifest: Manifest) -> str:
    """The STATUS of a pod as kubectl shows it: the phase, how far initialising is, or why a container does not run."""
    if manifest["metadata"].get("deletionTimestamp"):
        return "Terminating"
    inits = _init_containers(manifest)
    for index, container in enumerate(inits):
        if not container.get("ready"):
            return f"Init:{_init_word(container) or f'{index}/{len(inits)}'}"
    for container in _containers(manifest):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") not in (None, "ContainerCreating"):
            return str(waiting["reason"])
    return str(manifest.get("status", {}).get("phase", "Pending"))


def _init_word(container: Manifest) -> str:
    """Why that init container does not run; empty if it does, or is about to."""
    state = container.get("state", {})
    if ended := state.get("terminated"):
        return str(ended.get("reason") or f"ExitCode:{ended.get('exitCode')}")
    reason = state.get("waiting", {}).get("reason", "")
    return "" if reason == _INITIALISING else str(reason)


def troubles(manifest: Manifest) -> list[str]:
    """Why a pod is not ready: a line for each of its containers that is not, one only where the reason is the same."""
    if manifest["metadata"].get("deletionTimestamp"):
        return []
    lines: dict[str, str] = {}
    held_up = [container for container in _init_containers(manifest) if not container.get("ready")]
    for container in held_up[:1] or _containers(manifest):
        if trouble := trouble_of(manifest, container["name"]):
            lines.setdefault(trouble, f"{container['name']}: {trouble}")
    return list(lines.values())


def trouble_of(manifest: Manifest, container: str) -> str | None:
    """Why that container of the pod is not ready; None if it is, or if nothing is known of it."""
    for statuses, as_it_runs in (
        (_init_containers(manifest), "running, and not through yet"),
        (_containers(manifest), "running, but its readiness probe does not succeed"),
    ):
        for status in statuses:
            if status["name"] == container and not status.get("ready"):
                return _trouble(status, as_it_runs)
    return None


def _trouble(container: Manifest, as_it_runs: str) -> str:
    state = container.get("state", {})
    if waiting := state.get("waiting"):
        return str(waiting.get("message") or waiting.get("reason"))
    if ended := state.get("terminated"):
        return f"ended with exit code {ended.get('exitCode')}"
    return as_it_runs


def restarts(manifest: Manifest) -> int:
    """Of the init containers until they are through, as kubectl counts."""
    inits = _init_containers(manifest)
    counted = _containers(manifest) if all(container.get("ready") for container in inits) else inits
    return sum(container.get("restartCount", 0) for container in counted)


def ready_count(manifest: Manifest) -> str:
    containers = _containers(manifest)
    return f"{sum(bool(c.get('ready')) for c in containers)}/{len(containers)}"


def _containers(manifest: Manifest) -> list[Manifest]:
    found: list[Manifest] = manifest.get("status", {}).get("containerStatuses", [])
    return found


def _init_containers(manifest: Manifest) -> list[Manifest]:
    found: list[Manifest] = manifest.get("status", {}).get("initContainerStatuses", [])
    return found


def _pod(manifest: Manifest) -> list[object]:
    address = manifest.get("status", {}).get("podIP", "")
    return [ready_count(manifest), pod_word(manifest), restarts(manifest), address]


def _service(manifest: Manifest) -> list[object]:
    spec = manifest.get("spec", {})
    ports = ",".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in spec.get("ports", []))
    return [spec.get("type", "ClusterIP"), spec.get("clusterIP", "<none>"), ports, _labels(spec.get("selector", {}))]


def _deployment(manifest: Manifest) -> list[object]:
    spec = manifest["spec"]
    return [spec.get("replicas", 1), _labels(spec["selector"].get("matchLabels", {}))]


def _virtual_service(manifest: Manifest) -> list[object]:
    spec = manifest["spec"]
    return [json.dumps(spec.get("gateways", [])), json.dumps(spec.get("hosts", []))]


def _gateway(manifest: Manifest) -> list[object]:
    servers = manifest["spec"].get("servers", [])
    ports = ",".join(f"{server['port']['number']}/{server['port']['protocol']}" for server in servers)
    return [ports, _labels(manifest["spec"].get("selector", {}))]


def _service_entry(manifest: Manifest) -> list[object]:
    spec = manifest["spec"]
    hosts = json.dumps(spec.get("hosts", []))
    return [hosts, spec.get("location", "MESH_EXTERNAL"), spec.get("resolution", "NONE")]


def _peer_authentication(manifest: Manifest) -> list[object]:
    return [manifest.get("spec", {}).get("mtls", {}).get("mode", "")]


def _authorization_policy(manifest: Manifest) -> list[object]:
    return [manifest.get("spec", {}).get("action", "ALLOW")]


def _request_authentication(manifest: Manifest) -> list[object]:
    return [json.dumps([rule["issuer"] for rule in manifest.get("spec", {}).get("jwtRules", [])])]


def _fault(manifest: Manifest) -> list[object]:
    return [len(manifest["spec"].get("resources", [])), manifest.get("status", {}).get("expiresAt", "")]


def _secret(manifest: Manifest) -> list[object]:
    entries = {**manifest.get("data", {}), **manifest.get("stringData", {})}
    return [manifest.get("type", "Opaque"), len(entries)]


def _pod_fault(manifest: Manifest) -> list[object]:
    spec = manifest["spec"]
    effect = next((name for name in spec if name not in ("selector", "target", "direction")), "")
    pods = _labels(spec["selector"]["matchLabels"])
    if effect in ("dns", "pause", "kill"):  # not about traffic with others
        return [effect, pods, "", ""]
    target = _labels(spec.get("target", {}).get("matchLabels", {}))
    return [effect, pods, spec.get("direction", "to"), target or "<all>"]


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())


_NONE: tuple[list[str], Cells] = ([], lambda _: [])
_COLUMNS: Mapping[str, tuple[list[str], Cells]] = {
    "Pod": (["READY", "STATUS", "RESTARTS", "IP"], _pod),
    "Service": (["TYPE", "CLUSTER-IP", "PORTS", "SELECTOR"], _service),
    "Secret": (["TYPE", "DATA"], _secret),
    "Deployment": (["REPLICAS", "SELECTOR"], _deployment),
    "VirtualService": (["GATEWAYS", "HOSTS"], _virtual_service),
    "DestinationRule": (["HOST"], lambda manifest: [manifest["spec"]["host"]]),
    "Gateway": (["PORTS", "SELECTOR"], _gateway),
    "ServiceEntry": (["HOSTS", "LOCATION", "RESOLUTION"], _service_entry),
    "PeerAuthentication": (["MODE"], _peer_authentication),
    "AuthorizationPolicy": (["ACTION"], _authorization_policy),
    "RequestAuthentication": (["ISSUERS"], _request_authentication),
    "PodFault": (["EFFECT", "PODS", "DIRECTION", "TARGET"], _pod_fault),
    "Fault": (["RESOURCES", "EXPIRES"], _fault),
}
