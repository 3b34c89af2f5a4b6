from typing import Any

import pytest

from mesh.api.pod import ContainerStatus, Pod
from mesh.config.decode import decode_object
from mesh.platforms.node.manifests import pod_manifest, pod_status

SINCE = {"Ready": "2026-01-01T00:00:00Z", "ContainersReady": "2026-01-01T00:00:00Z"}
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def status(*containers: ContainerStatus, stopping: bool = False) -> dict[str, Any]:
    return pod_status("127.90.1.1", containers, stopping=stopping, since=SINCE, started="2026-01-01T00:00:00Z")


def ready(found: dict[str, Any]) -> str:
    return str(next(c["status"] for c in found["conditions"] if c["type"] == "Ready"))


@pytest.mark.parametrize(
    ("flags", "stopping", "expected"),
    [
        ((True, True), False, "True"),
        ((True, False), False, "False"),
        ((True, True), True, "False"),
        ((), False, "False"),
    ],
)
def test_a_pod_is_ready_when_all_its_containers_are_and_it_is_to_stay(
    flags: tuple[bool, ...], stopping: bool, expected: str
) -> None:
    containers = [ContainerStatus(name=f"c{i}", ready=flag, state=RUNNING) for i, flag in enumerate(flags)]
    assert ready(status(*containers, stopping=stopping)) == expected


@pytest.mark.parametrize(
    ("state", "restarts", "phase"),
    [
        ({"waiting": {"reason": "ContainerCreating"}}, 0, "Pending"),
        (RUNNING, 0, "Running"),
        ({"waiting": {"reason": "CrashLoopBackOff"}}, 4, "Running"),
        ({"terminated": {"exitCode": 0}}, 0, "Succeeded"),
        ({"terminated": {"exitCode": 2}}, 0, "Failed"),
    ],
)
def test_the_phase_follows_the_containers(state: dict[str, Any], restarts: int, phase: str) -> None:
    assert status(ContainerStatus(name="c", state=state, restart_count=restarts))["phase"] == phase


def test_an_unready_pod_says_which_container_and_why() -> None:
    waiting = ContainerStatus(name="reviews", state={"waiting": {"reason": "CrashLoopBackOff"}})
    assert status(waiting)["conditions"][0]["message"] == "containers with unready status: [reviews: CrashLoopBackOff]"


def test_what_we_write_is_what_we_read() -> None:
    deployment = {"metadata": {"name": "web", "namespace": "shop", "uid": "u1"}}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "i"}]}}
    manifest = pod_manifest(deployment, template, "web-1-abcde", "1")
    manifest["status"] = status(ContainerStatus(name="web", ready=True, state=RUNNING))
    pod = decode_object(manifest).resource
    assert isinstance(pod, Pod)
    assert (pod.name, pod.namespace, pod.metadata.labels) == (
        "web-1-abcde",
        "shop",
        {"app": "web", "pod-template-hash": "1"},
    )
    assert pod.status.ready
    assert pod.status.pod_ip == "127.90.1.1"
