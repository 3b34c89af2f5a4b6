"""The client of the mesh that a verb is about, and the pod that a user means by a word."""

from collections.abc import Sequence
from pathlib import Path

from mesh.cli.errors import Failure
from mesh.cli.options import state_folder
from mesh.client import MeshClient, Pod

WORKLOAD_PREFIXES = ("deploy/", "deployment/")


def connect(state: Path | None, name: str) -> MeshClient:
    """Raises MeshNotRunning."""
    return MeshClient.from_state(state_folder(state, name))


def find_pod(pods: Sequence[Pod], word: str) -> Pod:
    """By name, `name.namespace`, `deploy/NAME` or a prefix that only one pod has.

    Raises Failure, naming the candidates.
    """
    if word.startswith(WORKLOAD_PREFIXES):
        workload = word.partition("/")[2]
        found = [pod for pod in pods if pod.workload == workload]
        if not found:
            raise Failure(f'no pod belongs to a deployment "{workload}"; there are {_names(sorted(_workloads(pods)))}')
        return min(found, key=lambda pod: (not pod.ready, pod.name))
    word = word.removeprefix("pod/")
    exact = [pod for pod in pods if word in (pod.name, f"{pod.name}.{pod.namespace}")]
    found = exact or [pod for pod in pods if pod.name.startswith(word)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise Failure(f'no pod is called "{word}"; there are {_names([pod.name for pod in pods])}')
    raise Failure(f'"{word}" may be any of {_names([pod.name for pod in found])}; give more of the name')


def container_of(pod: Pod, name: str | None) -> str:
    """The container of that name; without one the app's, which comes first. Raises Failure, naming them all."""
    spec = pod.manifest["spec"]
    names = [each["name"] for each in (*spec["containers"], *spec.get("initContainers", ()))]
    chosen = name or names[0]
    if chosen not in names:
        raise Failure(f'pod {pod.name} has no container "{chosen}"; it has {", ".join(names)}')
    return str(chosen)


def _workloads(pods: Sequence[Pod]) -> set[str]:
    return {pod.workload for pod in pods}


def _names(names: list[str]) -> str:
    return ", ".join(names) if names else "none"
