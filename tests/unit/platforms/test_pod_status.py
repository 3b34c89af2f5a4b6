from typing import Any

import pytest

from mesh.api.pod import ContainerStatus, Pod
from mesh.config.decode import decode_object
from mesh.platforms.node.manifests import pod_manifest, pod_status

SINCE = dict.fromkeys(("Initialized", "Ready", "ContainersReady"), "2026-01-01T00:00:00Z")
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def status(*containers: ContainerStatus, stopping: bool = False) -> dict[str, Any]:
    return pod_status("127.90.1.1", containers, stopping=stopping, since=SINCE, started="2026-01-01T00:00:00Z")


def condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    (one,) = [each for each in found["conditions"] if each["type"] == kind]
    return dict(one)


def ready(found: dict[str, Any]) -> str:
    return str(condition(found, "Ready")["status"])


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
    message = condition(status(waiting), "Ready")["message"]
    assert message == "containers with unready status: [reviews: CrashLoopBackOff]"


INITIALISING = ContainerStatus(name="app", state={"waiting": {"reason": "PodInitializing"}})
DONE = ContainerStatus(name="first", ready=True, state={"terminated": {"exitCode": 0}})
FAILED = ContainerStatus(name="second", state={"terminated": {"exitCode": 2}})
BACKING_OFF = ContainerStatus(name="second", state={"waiting": {"reason": "CrashLoopBackOff"}}, restart_count=4)


@pytest.mark.parametrize(
    ("inits", "restart", "phase", "initialized"),
    [
        ([], "Always", "Pending", ("True", None)),
        ([DONE], "Always", "Pending", ("True", None)),
        ([DONE, FAILED], "Always", "Pending", ("False", "containers with incomplete status: [second]")),
        ([DONE, FAILED], "Never", "Failed", ("False", "containers with incomplete status: [second]")),
        ([DONE, BACKING_OFF], "OnFailure", "Pending", ("False", "containers with incomplete status: [second]")),
    ],
)
def test_a_pod_is_pending_until_its_init_containers_are_through(
    inits: list[ContainerStatus], restart: str, phase: str, initialized: tuple[str, str | None]
) -> None:
    found = pod_status("", [INITIALISING], inits, restart=restart, stopping=False, since=SINCE, started="")
    shown = condition(found, "Initialized")
    assert (found["phase"], (shown["status"], shown.get("message"))) == (phase, initialized)
    assert [each["name"] for each in found.get("initContainerStatuses", [])] == [each.name for each in inits]


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
