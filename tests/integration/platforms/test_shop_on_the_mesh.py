"""A user's two services on a running mesh: what a cluster would do with them."""

import json
import os
import signal
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from meshdrill_command import Meshdrill, pids_of, until, workload

from mesh.cli.columns import pod_word
from mesh.client import MeshClient, Pod
from mesh.platforms.process.ledger import Ledger


def pods_of(client: MeshClient, workload_name: str) -> list[Pod]:
    return [pod for pod in client.pods() if pod.workload == workload_name]


def only_ready(client: MeshClient, workload_name: str, count: int = 1) -> list[Pod] | None:
    pods = pods_of(client, workload_name)
    return pods if len(pods) == count and all(pod.ready for pod in pods) else None


def pid_of(state: Path, label: str) -> int:
    return pids_of(state, label)[0]


@contextmanager
def callers(command: Meshdrill) -> Iterator[list[int]]:
    """Calls the page without a pause while the body runs; the statuses are its list."""
    statuses: list[int] = []
    ended = threading.Event()

    def call() -> None:
        while not ended.is_set():
            statuses.append(command.get()[0])

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield statuses
    finally:
        ended.set()
        thread.join(30)


def test_a_call_goes_through_the_gateway_and_both_services(running: Meshdrill) -> None:
    status, answer = running.get()
    assert status == 200
    assert answer["pod"].startswith("front-")
    assert answer["backend"]["color"] == "red"


def test_apps_call_each_other_through_their_sidecars_with_mutual_tls(running: Meshdrill) -> None:
    running.get()
    with running.client() as client:
        back = only_ready(client, "back")
        assert back is not None

        def calls() -> float:
            return client.metrics(back[0]).value(
                "istio_requests_total",
                reporter="destination",
                connection_security_policy="mutual_tls",
                source_principal="spiffe://cluster.local/ns/default/sa/front",
            )

        assert until(calls, "a call from front's identity is counted at back")


def test_status_shows_every_pod_ready_and_in_step(running: Meshdrill) -> None:
    answer = running.run("status", "-o", "json")
    assert answer.returncode == 0, answer.stderr
    facts = json.loads(answer.stdout)
    assert facts["mesh"]["gateway"] == f"http://127.0.0.1:{running.port}"
    assert {pod["proxy"] for pod in facts["pods"]} == {"synced"}
    assert all(pod["ready"] for pod in facts["pods"])


def test_a_crashed_app_is_restarted_and_counted(running: Meshdrill) -> None:
    with running.client() as client:
        pods = until(lambda: only_ready(client, "back"), "back is ready")
        before = restarts(pods[0])
        os.kill(pid_of(running.state, f"{pods[0].name}.app"), signal.SIGKILL)
        after = until(lambda: restarted(client, pods[0].name, before), "the app was restarted")
    last = next(c for c in after.manifest["status"]["containerStatuses"] if c["name"] == "app")["lastState"]
    assert last["terminated"]["signal"] == signal.SIGKILL
    assert until(lambda: running.get()[0] == 200, "the page is back")


def restarts(pod: Pod) -> int:
    return sum(container["restartCount"] for container in pod.manifest["status"]["containerStatuses"])


def restarted(client: MeshClient, name: str, before: int) -> Pod | None:
    pod = next((pod for pod in client.pods() if pod.name == name), None)
    return pod if pod is not None and pod.ready and restarts(pod) > before else None


def test_a_killed_proxy_is_started_again_by_its_agent(running: Meshdrill) -> None:
    with running.client() as client:
        pod = until(lambda: only_ready(client, "front"), "front is ready")[0]
        agent = pid_of(running.state, f"{pod.name}.istio-proxy")
        before = proxies_of(agent)
        assert before
        for proxy in before:
            os.kill(proxy, signal.SIGKILL)
        until(lambda: proxies_of(agent) and not proxies_of(agent) & before, "another proxy runs")
        assert until(lambda: running.get()[0] == 200, "the page is back")
        assert restarts(next(p for p in client.pods() if p.name == pod.name)) == restarts(pod)


def proxies_of(agent: int) -> set[int]:
    """What runs a bootstrap below the container's process; the agent's forked jobs have its own command line."""
    command = ["ps", "-o", "pid=,args=", "--ppid", str(agent)]
    listing = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    children = {int(line.split()[0]): line for line in listing.splitlines()}
    found = {pid for pid, line in children.items() if "bootstrap.json" in line}
    return found.union(*(proxies_of(child) for child in children))


def test_a_killed_sidecar_comes_back_with_its_configuration(running: Meshdrill) -> None:
    with running.client() as client:
        pods = until(lambda: only_ready(client, "front"), "front is ready")
        before = restarts(pods[0])
        os.kill(pid_of(running.state, f"{pods[0].name}.istio-proxy"), signal.SIGKILL)
        until(lambda: restarted(client, pods[0].name, before), "the sidecar was restarted")
    assert until(lambda: running.get()[0] == 200, "the page is back")


def test_a_changed_template_is_rolled_out_with_no_failed_call(running: Meshdrill) -> None:
    changed = running.write("back.yaml", workload("back", COLOR="blue"))
    with callers(running) as statuses, running.client() as client:
        before = until(lambda: only_ready(client, "back"), "back is ready")[0].name
        assert running.run("apply", "-f", changed).returncode == 0
        until(lambda: running.get()[1].get("backend", {}).get("color") == "blue", "the new version answers")
        until(lambda: (only_ready(client, "back") or [None])[0] not in (None, before), "the old pod is gone")
        until(lambda: before not in {pod.name for pod in pods_of(client, "back")}, "the old pod is gone")
    assert set(statuses) == {200}


def test_more_replicas_share_the_calls_and_fewer_leave_none_behind(running: Meshdrill) -> None:
    with running.client() as client:
        assert (
            running.run("apply", "-f", running.write("2.yaml", workload("back", replicas=2, COLOR="blue"))).returncode
            == 0
        )
        pods = until(lambda: only_ready(client, "back", 2), "two pods are ready")
        names = {pod.name for pod in pods}
        seen: set[str] = set()
        until(lambda: names <= seen | add(seen, running.get()[1]), "both pods answer")
        assert running.run("apply", "-f", running.write("1.yaml", workload("back", COLOR="blue"))).returncode == 0
        until(lambda: only_ready(client, "back", 1), "one pod is left")
    assert running.get()[0] == 200


def add(seen: set[str], answer: dict[str, Any]) -> set[str]:
    seen.add(answer.get("backend", {}).get("pod", ""))
    return seen


def test_a_deleted_pod_is_replaced(running: Meshdrill) -> None:
    with running.client() as client:
        before = until(lambda: only_ready(client, "back"), "back is ready")[0]
        assert running.run("delete", "pod", before.name).returncode == 0
        after = until(lambda: replaced(client, before.name), "another pod is ready")
    assert after.ip != before.ip
    assert until(lambda: running.get()[0] == 200, "the page is back")
    assert not [record for record in Ledger(running.state).records() if record.name.startswith(before.name)]


def replaced(client: MeshClient, old: str) -> Pod | None:
    pods = only_ready(client, "back")
    return pods[0] if pods and pods[0].name != old else None


def test_an_annotation_makes_the_agent_get_a_new_certificate(running: Meshdrill) -> None:
    with running.client() as client:
        pod = until(lambda: only_ready(client, "front"), "front is ready")[0]
        before = serials(client, pod)
        manifest = client.get("Pod", pod.name)
        manifest["metadata"].setdefault("annotations", {})["meshdrill.dev/rotate-requested-at"] = "now"
        client.replace(manifest)
        until(lambda: not serials(client, pod) & before, "the proxy has another certificate")
    assert running.get()[0] == 200


def serials(client: MeshClient, pod: Pod) -> set[str]:
    certificates = json.loads(client.admin(pod, "/certs"))["certificates"]
    return {chain["serial_number"] for entry in certificates for chain in entry.get("cert_chain", [])}


def test_calls_go_on_while_the_control_plane_is_down_and_config_is_there_afterwards(running: Meshdrill) -> None:
    with running.client() as client:
        services = {item["metadata"]["name"] for item in client.list("Service").items}
        with callers(running) as statuses:
            before = pid_of(running.state, "control")
            os.kill(before, signal.SIGKILL)
            until(lambda: is_up_again(running.state, before, client), "the control plane is back")
            until(lambda: len(client.proxies()) == 3, "all sidecars have connected again")
        assert {item["metadata"]["name"] for item in client.list("Service").items} == services
    assert set(statuses) == {200}


def is_up_again(state: Path, before: int, client: MeshClient) -> bool:
    running = pids_of(state, "control")
    return bool(running) and running != [before] and client.is_ready()


def test_the_pods_of_a_fault_live_as_long_as_it_does(running: Meshdrill) -> None:
    with running.client() as client:
        with client.fault("extra", workload("extra")):
            until(lambda: only_ready(client, "extra"), "the fault's pod is ready")
        until(lambda: not pods_of(client, "extra"), "it is gone with the fault")
        before = {pod.name for pod in client.pods()}
        with client.fault("no-back", [scaled(client.get("Deployment", "back"), 0)]):
            until(lambda: not pods_of(client, "back"), "back has no pod")
            assert until(lambda: running.get()[0] in (500, 503), "the page says that its backend is gone")
        until(lambda: only_ready(client, "back"), "back is back")
        assert len({pod.name for pod in client.pods()}) == len(before)
    assert until(lambda: running.get()[0] == 200, "the page is back")


def scaled(deployment: dict[str, Any], replicas: int) -> dict[str, Any]:
    return deployment | {"spec": deployment["spec"] | {"replicas": replicas}}


def test_a_pod_that_cannot_run_says_why_and_runs_once_it_can(running: Meshdrill) -> None:
    manifests = workload("late")
    container = manifests[-1]["spec"]["template"]["spec"]["containers"][0]
    container["env"].append({"name": "COLOR", "valueFrom": {"secretKeyRef": {"name": "colors", "key": "late"}}})
    container["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"SIZE": "2"}}
    colors = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "colors"}, "stringData": {"late": HIDDEN}}
    with running.client() as client:
        client.apply_all(manifests)
        waiting = until(lambda: waits(client, "late", "CreateContainerConfigError"), "the pod says that it cannot run")
        assert 'configmap "settings" not found' in waiting
        assert "CreateContainerConfigError" in running.run("get", "pods", "-n", "default").stdout
        client.apply(settings)
        until(
            lambda: 'secret "colors" not found' in waits(client, "late", "CreateContainerConfigError"),
            "the pod waits for the Secret alone",
        )
        client.apply(colors)
        pod = until(lambda: only_ready(client, "late"), "it runs once all is there")[0]
        assert app_of(pod)["color"] == HIDDEN
        assert_nobody_tells(running, client, pod)
        for manifest in (*manifests, settings, colors):
            client.delete(manifest["kind"], manifest["metadata"]["name"])
        until(lambda: not pods_of(client, "late"), "it is gone")


HIDDEN = "s3cr3t-green"


def app_of(pod: Pod) -> dict[str, Any]:
    """What a pod's app answers, asked past the gateway."""
    host, port = pod.reach(8000)
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def assert_nobody_tells(running: Meshdrill, client: MeshClient, pod: Pod) -> None:
    """A Secret's value is in the control plane's store alone, and shown to the mesh's admin alone."""
    encoded = b64encode(HIDDEN.encode())
    files = [file for file in running.state.rglob("*") if file.is_file()]
    assert len(files) > 10
    holding = [file for file in files if HIDDEN.encode() in (text := file.read_bytes()) or encoded in text]
    assert {file.name.partition("-")[0] for file in holding} == {"store.db"}
    assert {file.stat().st_mode & 0o777 for file in holding} == {0o600}
    assert HIDDEN not in json.dumps(client.get("Pod", pod.name)) + json.dumps(client.proxies(), default=str)
    assert client.mesh is not None
    url = f"{client.mesh.api}/api/v1/namespaces/default/secrets/colors"
    token = (running.state / "pods" / pod.name / "token").read_text()
    assert asked(running, url) == 401
    assert asked(running, url, token) == 403
    assert asked(running, url, (running.state / "token").read_text().strip()) == 200


def asked(running: Meshdrill, url: str, token: str = "") -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    context = ssl.create_default_context(cafile=running.state / "ca" / "root-cert.pem")
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


CALLS = """
import os, socket
try:
    socket.create_connection(("back", 8000), timeout=10)
except OSError as error:
    print(type(error).__name__, os.environ.get("http_proxy"), flush=True)
"""


def test_init_containers_run_one_after_another_before_the_sidecar_and_the_app(running: Meshdrill) -> None:
    gate, tried = running.state.parent / "gate", running.state.parent / "tried"
    manifests = workload("slow")
    spec = manifests[-1]["spec"]["template"]["spec"]
    spec["initContainers"] = [
        {"name": "calls", "command": ["python", "-c", CALLS]},
        {"name": "waits", "command": ["sh", "-c", f"echo here I am; until test -e {gate}; do sleep 0.1; done"]},
        {"name": "fails", "command": ["sh", "-c", f"test -e {tried} || exit 3"]},
    ]
    with running.client() as client:
        assert client.mesh is not None
        client.apply_all(manifests)
        pod = until(lambda: initialises(client, "slow", "Init:1/3"), "the second one runs")
        assert initialized(pod) == ("False", "containers with incomplete status: [waits fails]")
        assert pod.phase == "Pending"
        refused = "ConnectionRefusedError" if client.mesh.platform == "netns" else "gaierror"
        assert running.run("logs", "deploy/slow", "-c", "calls").stdout == f"{refused} None\n"
        assert "here I am" in running.run("logs", "deploy/slow", "-c", "waits").stdout
        status = running.run("status")
        assert (status.returncode, "waits: running, and not through yet" in status.stdout) == (1, True)
        assert not (running.state / "logs" / f"{pod.name}.istio-proxy.log").exists()
        gate.touch()
        until(lambda: initialises(client, "slow", "Init:CrashLoopBackOff"), "the third one fails again and again")
        tried.touch()
        pod = until(lambda: only_ready(client, "slow"), "it is through, and the app is ready")[0]
        assert initialized(pod) == ("True", "")
        ended = [each["state"]["terminated"]["exitCode"] for each in pod.manifest["status"]["initContainerStatuses"]]
        assert ended == [0, 0, 0]
        assert pod_word(pod.manifest) == "Running"
        for manifest in manifests:
            client.delete(manifest["kind"], manifest["metadata"]["name"])
        until(lambda: not pods_of(client, "slow"), "it is gone")


def test_containers_share_a_folder_and_see_the_files_of_config_maps_and_secrets(running: Meshdrill) -> None:
    meta = {"name": "of-volumes"}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"color": "violet", "other": "x"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"key": HIDDEN}}
    manifests = workload("volumes")
    spec = manifests[-1]["spec"]["template"]["spec"]
    spec["volumes"] = [
        {"name": "config", "configMap": {"name": "of-volumes", "items": [{"key": "color", "path": "a/color"}]}},
        {"name": "secret", "secret": {"secretName": "of-volumes"}},
        {"name": "shared", "emptyDir": {}},
    ]
    shared = {"name": "shared", "mountPath": "/shared-by-containers"}
    spec["initContainers"] = [{"name": "writes", "command": ["sh", "-c", WRITES], "volumeMounts": [shared]}]
    app = spec["containers"][0]
    app["volumeMounts"] = [
        {"name": "config", "mountPath": "/etc/of-a-test"},
        {"name": "secret", "mountPath": "/secret-of-a-test"},
        shared | {"readOnly": True},
    ]
    app["command"] = ["sh", "-c", READS.format(" ".join(f"'{word}'" for word in app["command"]))]
    with running.client() as client:
        assert client.mesh is not None
        if client.mesh.platform == "process":
            client.apply_all([config, secret, *manifests])
            waiting = until(lambda: waits(client, "volumes", "CreateContainerConfigError"), "the pod is refused")
            assert 'volume "secret" (secret) is not mounted by the process platform' in waiting
        else:
            client.apply_all([config, *manifests])
            waiting = until(lambda: waits(client, "volumes", "CreateContainerConfigError"), "the pod waits")
            assert 'volume "secret": secret "of-volumes" not found' in waiting
            client.apply(secret)
            pod = until(lambda: only_ready(client, "volumes"), "it runs once all is there")[0]
            printed = running.run("logs", pod.name).stdout.splitlines()[:5]
            assert printed == ["written before", "violet", HIDDEN, "600", "a"]
            assert (running.state / "volumes" / pod.name / "secret" / "key").read_text() == HIDDEN
        for manifest in (*manifests, config, secret):
            client.delete(manifest["kind"], manifest["metadata"]["name"])
        until(lambda: not pods_of(client, "volumes"), "it is gone")
        assert not list((running.state / "volumes").glob("volumes-*"))


WRITES = "echo written before > /shared-by-containers/told; mkdir -m 0 /shared-by-containers/locked"
READS = """cd /secret-of-a-test && cat /shared-by-containers/told /etc/of-a-test/a/color && echo && cat key && echo
stat -L -c %a key; ls /etc/of-a-test; ! touch key new /etc/of-a-test/a/color /shared-by-containers/new 2>/dev/null &&
exec {}"""


def initialises(client: MeshClient, workload_name: str, word: str) -> Pod | None:
    return next((pod for pod in pods_of(client, workload_name) if pod_word(pod.manifest) == word), None)


def initialized(pod: Pod) -> tuple[str, str]:
    (found,) = [each for each in pod.manifest["status"]["conditions"] if each["type"] == "Initialized"]
    return found["status"], found.get("message", "")


def waits(client: MeshClient, workload_name: str, reason: str) -> str:
    """Why a container of the workload's pod waits for this reason; empty if none does. Its phase is shown with it."""
    for pod in pods_of(client, workload_name):
        for container in pod.manifest["status"]["containerStatuses"]:
            waiting = container["state"].get("waiting", {})
            if waiting.get("reason") == reason:
                return f"{pod.phase}: {waiting.get('message', '')}"
    return ""


def test_a_pod_outside_the_mesh_has_no_sidecar_and_its_own_port(running: Meshdrill) -> None:
    manifests = workload("outside", COLOR="grey")
    manifests[-1]["spec"]["template"]["metadata"]["annotations"] = {"sidecar.istio.io/inject": "false"}
    front = workload("front", BACKEND_URL="http://outside:8000/")[-1]
    with running.client() as client:
        client.apply_all(manifests)
        pod = until(lambda: only_ready(client, "outside"), "it is ready")[0]
        assert [container["name"] for container in pod.manifest["spec"]["containers"]] == ["app"]
        host, port = pod.reach(8000)
        with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as response:
            assert response.status == 200
        with client.fault("front-calls-outside", [front]):
            until(
                lambda: running.get()[1].get("backend", {}).get("color") == "grey", "the mesh reaches it in plaintext"
            )
        until(lambda: running.get()[1].get("backend", {}).get("color") != "grey", "the fault is over")
        for manifest in manifests:
            client.delete(manifest["kind"], manifest["metadata"]["name"])


def test_a_deleted_deployment_takes_its_pods_along(running: Meshdrill) -> None:
    extra = running.write("extra.yaml", workload("extra"))
    with running.client() as client:
        assert running.run("apply", "-f", extra).returncode == 0
        pod = until(lambda: only_ready(client, "extra"), "the new deployment's pod is ready")[0]
        assert running.run("delete", "-f", extra).returncode == 0
        until(lambda: not pods_of(client, "extra"), "the pod is gone")
    assert not [record for record in Ledger(running.state).records() if record.name.startswith(pod.name)]
