"""PodFaults on whole meshes: the node lays them, tells of them by the pods' conditions, and lifts them.

They end with their Fault, with its lease, when they are deleted, and with the mesh.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from meshdrill_command import Meshdrill, shop, until, why_no_netns

from chaos import in_force
from chaos.errors import CannotMeasure
from mesh.client import POD_FAULT_CONDITION, MeshClient

FRONT, BACK = {"matchLabels": {"app": "front"}}, {"matchLabels": {"app": "back"}}
HARNESS = """
import json, sys, time
from pathlib import Path
from mesh.client import MeshClient
client = MeshClient.from_state(Path(sys.argv[1]))
with client.fault("killed", json.loads(sys.argv[2]), lease_s=2):
    print("laid", flush=True)
    time.sleep(600)
"""


def pod_fault(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "meshdrill.dev/v1alpha1", "kind": "PodFault", "metadata": metadata, "spec": spec}


def conditions(client: MeshClient) -> dict[str, tuple[str, str]]:
    """By pod's workload and fault: status and message without the uid."""
    return {
        f"{pod.workload} {each['type'].partition('/')[2]}": (each["status"], each["message"].partition(": ")[2])
        for pod in client.pods()
        for each in pod.manifest["status"]["conditions"]
        if each["type"].startswith(POD_FAULT_CONDITION)
    }


@pytest.fixture(scope="module")
def netns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshdrill]:
    if reason := why_no_netns():
        pytest.skip(f"no network namespaces: {reason}")
    command = Meshdrill(tmp_path_factory.mktemp("mesh") / "state")
    with command.up_in_front("-f", command.write("shop.yaml", shop()), "--platform", "netns"):
        yield command
    assert not command.processes()


@pytest.fixture
def client(netns: Meshdrill) -> Iterator[MeshClient]:
    with netns.client() as found:
        assert found.mesh is not None
        if found.mesh.lacking:
            pytest.skip("; ".join(f"no {name}: {why}" for name, why in found.mesh.lacking.items()))
        yield found
        until(lambda: not conditions(found), "no fault is left")


def test_a_delay_between_two_pods_shows_at_the_gateway_and_is_gone_with_its_fault(
    netns: Meshdrill, client: MeshClient
) -> None:
    late = pod_fault("late", selector=FRONT, target=BACK, delay={"latency": "300ms"})
    with client.fault("slow", [late]):
        in_force.await_in_force(client, [late])
        assert conditions(client) == {"front late": ("True", "it lies on this pod")}
        began = time.monotonic()
        assert netns.get()[1]["backend"]["color"] == "red"
        assert time.monotonic() - began >= 0.3
    in_force.await_gone(client, [late])
    assert netns.get()[0] == 200


def test_a_fault_is_lifted_when_the_lease_of_a_killed_harness_ends(netns: Meshdrill, client: MeshClient) -> None:
    cut = pod_fault("cut", selector=BACK, direction="both", partition={})
    command = [sys.executable, "-c", HARNESS, str(netns.state), json.dumps([cut])]
    harness = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert harness.stdout is not None
    with harness, harness.stdout:
        assert harness.stdout.readline() == "laid\n"
        in_force.await_in_force(client, [cut])
        assert "backend" not in netns.get()[1]
        harness.kill()
        harness.wait(20)
    until(lambda: not conditions(client), "the fault is lifted")
    until(lambda: netns.get()[1].get("backend", {}).get("color") == "red", "the pods reach each other again")


def test_what_cannot_be_laid_is_told_with_the_reason(netns: Meshdrill, client: MeshClient) -> None:
    alone = pod_fault("alone", selector=FRONT, target={"matchLabels": {"app": "nobody"}}, reset={})
    misspelt = pod_fault("misspelt", selector=BACK, pause={"container": "ap"})
    with client.fault("refused", [alone, misspelt]):
        until(lambda: len(conditions(client)) == 2, "both are judged")
        found = conditions(client)
        assert found["front alone"] == ("False", "no pod has the labels of its target")
        assert found["back misspelt"][0] == "False"
        assert 'has no container "ap"; it has app, istio-proxy' in found["back misspelt"][1]
        with pytest.raises(CannotMeasure, match="no pod has the labels of its target"):
            in_force.await_in_force(client, [alone])


def test_a_pod_that_takes_anothers_place_gets_its_faults(netns: Meshdrill, client: MeshClient) -> None:
    cut = pod_fault("cut", selector=FRONT, target=BACK, partition={})
    client.apply(cut)  # with no lease: until somebody deletes it
    in_force.await_in_force(client, [cut])
    (back,) = client.pods(labels={"app": "back"})
    client.delete("Pod", back.name)
    until(lambda: {pod.ready for pod in client.pods(labels={"app": "back"})} == {True}, "another one is there")
    assert back.name not in [pod.name for pod in client.pods(labels={"app": "back"})]
    in_force.await_in_force(client, [cut])
    assert "backend" not in netns.get()[1]
    client.delete("PodFault", "cut")
    in_force.await_gone(client, [cut])
    until(lambda: netns.get()[1].get("backend", {}).get("color") == "red", "the pods reach each other again")


def test_names_fail_for_one_pod(netns: Meshdrill, client: MeshClient) -> None:
    spoilt = pod_fault("spoilt", selector=FRONT, dns={"answer": "NXDOMAIN", "patterns": ["back.*"]})
    with client.fault("names", [spoilt]):
        in_force.await_in_force(client, [spoilt])
        assert "backend" not in netns.get()[1]
    in_force.await_gone(client, [spoilt])
    until(lambda: netns.get()[1].get("backend", {}).get("color") == "red", "the name is known again")


def test_a_mesh_under_faults_goes_down_and_leaves_nothing(meshdrill: Meshdrill) -> None:
    if reason := why_no_netns():
        pytest.skip(f"no network namespaces: {reason}")
    faults = [
        pod_fault("cut", selector=BACK, direction="both", partition={}),
        pod_fault("late", selector=FRONT, delay={"latency": "1h"}),
        pod_fault("stopped", selector=BACK, pause={}),
    ]
    file = meshdrill.write("shop.yaml", shop())
    with meshdrill.up_in_front("-f", file, "--platform", "netns") as process, meshdrill.client() as client:
        for fault in faults:
            client.apply(fault)
            in_force.await_in_force(client, [fault])
        members = meshdrill.processes()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert not [pid for pid in members if Path(f"/proc/{pid}").exists()]


def test_processes_are_paused_and_killed_on_any_platform_and_a_network_is_not_what_it_has_not(
    meshdrill: Meshdrill,
) -> None:
    with (
        meshdrill.up_in_front("-f", meshdrill.write("shop.yaml", shop()), "--platform", "process"),
        meshdrill.client() as client,
    ):
        assert client.mesh is not None
        assert set(client.mesh.lacking) == {"partition", "delay", "loss", "bandwidth", "reset", "dns"}
        paused, killed = pod_fault("paused", selector=BACK, pause={}), pod_fault("killed", selector=BACK, kill={})
        with client.fault("pause", [paused]):
            in_force.await_in_force(client, [paused])
            assert "backend" not in meshdrill.get()[1]
        in_force.await_gone(client, [paused])
        assert meshdrill.get()[1]["backend"]["color"] == "red"
        with client.fault("kill", [killed]):
            until(lambda: restarts(client) == 1, "the app is killed, and comes back")
        in_force.await_gone(client, [killed])
        assert restarts(client) == 1  # once, and not again because the fault was there
        with client.fault("cut", [pod_fault("cut", selector=BACK, partition={})]):
            until(lambda: conditions(client), "it is judged")
            assert conditions(client)["back cut"] == ("False", client.mesh.lacking["partition"])


def restarts(client: MeshClient) -> int:
    (back,) = client.pods(labels={"app": "back"})
    statuses = {each["name"]: each for each in back.manifest["status"]["containerStatuses"]}
    return int(statuses["app"]["restartCount"])
