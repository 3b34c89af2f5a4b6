"""A mesh of real containers, from the user's own image: what a pod is, what it cannot do, how a mesh ends."""

import contextlib
import ipaddress
import json
import signal
import ssl
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from meshdrill_command import Meshdrill, shop_of_images, until
from outside import Outside, outside

from mesh.cli.columns import pod_word
from tests.docker_engine import SHOP_IMAGE, labelled, prepare

pytestmark = pytest.mark.timeout(1200)  # the first of these builds images

CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with contextlib.closing(prepare(tmp_path_factory.mktemp("images"))) as found:
        yield found


@pytest.fixture(scope="module")
def out() -> Iterator[Outside]:
    with outside(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as found:
        yield found


@pytest.fixture(scope="module", params=["python", pytest.param("envoy", marks=pytest.mark.envoy)])
def mesh(
    engine: Any, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, out: Outside
) -> Iterator[Meshdrill]:
    command = Meshdrill(tmp_path_factory.mktemp("mesh") / "state")
    file = command.write("shop.yaml", shop_of_images(SHOP_IMAGE))
    way = [word for port in out.listed for word in ("--host-port", str(port))]
    with command.up_in_front("-f", file, "--platform", "docker", "--proxy", request.param, *way):
        yield command
    assert labelled(engine, command.state) == []
    assert not command.processes()


class Inside:
    """Containers of the pods of one deployment."""

    def __init__(self, engine: Any, mesh: Meshdrill, app: str) -> None:
        with mesh.client() as client:
            (self.pod,) = client.pods(labels={"app": app})
        self._api = engine.api
        self._found = {
            each["Labels"]["meshdrill.dev/container"]: each["Id"]
            for each in labelled(engine, mesh.state)
            if each["Labels"].get("meshdrill.dev/pod") == self.pod.name
        }

    @property
    def containers(self) -> Iterator[str]:
        return iter(self._found)

    def id(self, container: str) -> str:
        return str(self._found[container])

    def facts(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = self._api.inspect_container(self.id(container))
        return found

    def run(self, container: str, *command: str, user: str = "") -> tuple[int, str]:
        made = self._api.exec_create(self.id(container), list(command), user=user)["Id"]
        output = self._api.exec_start(made).decode()
        return self._api.exec_inspect(made)["ExitCode"], output


def test_the_apps_call_each_other_by_name_through_their_sidecars(mesh: Meshdrill, engine: Any) -> None:
    status, page = mesh.get()
    front, back = Inside(engine, mesh, "front"), Inside(engine, mesh, "back")
    assert status == 200
    assert (page["pod"], page["backend"]["pod"]) == (front.pod.name, back.pod.name)
    assert page["backend"]["color"] == "red"  # of the image's environment and the manifest's
    log = mesh.state / "logs" / f"{back.pod.name}.istio-proxy.log"
    until(lambda: f"{back.pod.ip}:8000 {front.pod.ip}:" in log.read_text(), "the sidecar of back logs the call")


def test_app_and_sidecar_have_no_privilege_and_the_sidecar_is_istios_user(mesh: Meshdrill, engine: Any) -> None:
    inside = Inside(engine, mesh, "front")
    for container, user in (("app", "1000"), ("istio-proxy", "1337")):
        code, status = inside.run(container, "cat", "/proc/1/status")
        assert code == 0
        facts = dict(line.split(":\t", 1) for line in status.splitlines())
        assert {int(facts[name], 16) for name in CAPABILITIES} == {0}, container
        assert facts["NoNewPrivs"] == "1"
        assert facts["Uid"].split()[0] == user
    assert inside.run("POD", "cat", "/proc/1/task/1/children")[0] == 0


def test_an_app_reads_no_secret_of_the_mesh(mesh: Meshdrill, engine: Any) -> None:
    inside = Inside(engine, mesh, "front")
    assert inside.run("istio-proxy", "stat", "-c", "%a %u", "token") == (0, "600 1337\n")
    for secret in ("token", "secrets/key.pem", "secrets/default.json"):
        assert inside.run("istio-proxy", "test", "-s", secret)[0] == 0
        assert inside.run("app", "cat", f"/etc/istio/proxy/{secret}")[0] != 0
    token = (mesh.state / "token").read_text()
    assert token not in json.dumps(inside.facts("app")) + json.dumps(inside.facts("istio-proxy"))
    assert {mount["Destination"] for mount in inside.facts("app")["Mounts"]} == {"/etc/resolv.conf", "/etc/hosts"}
    assert inside.run("app", "ls", "/run/meshdrill")[0] != 0


def test_nothing_is_published_but_on_loopback_and_the_network_is_the_meshs_own(mesh: Meshdrill, engine: Any) -> None:
    (network,) = [each for each in labelled(engine, mesh.state) if "IPAM" in each]
    assert network["Internal"] is True
    for each in labelled(engine, mesh.state):
        assert not each.get("Ports")
    with mesh.client() as client:
        for pod in client.pods():
            assert pod.reach(15000)[0] == "127.0.0.1"


CALL_OUT = """
import json, socket, sys, urllib.request
web, *others = map(int, sys.argv[1:])
name = "host.meshdrill.internal"
with urllib.request.urlopen(f"http://{name}:{web}/", timeout=10) as response:
    found = [json.load(response)["host"]]
for port in others:
    with socket.create_connection((name, port), 10) as sock:
        try:
            found.append(sock.recv(100).decode())
        except ConnectionError:
            found.append("")
print(json.dumps([*found, socket.gethostbyname(name)]))
"""


def test_pods_reach_the_listed_ports_of_this_host_alone(mesh: Meshdrill, engine: Any, out: Outside) -> None:
    front, web = Inside(engine, mesh, "front"), out.web.server_address[1]
    name = "host.meshdrill.internal"
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "host"},
        "spec": {
            "hosts": [name],
            "ports": [
                {"number": web, "name": "http", "protocol": "HTTP"},
                {"number": out.greeter, "name": "tcp", "protocol": "TCP"},
            ],
            "resolution": "DNS",
        },
    }

    def called(*ports: int) -> list[str]:
        code, said = front.run("app", "python3", "-c", CALL_OUT, *map(str, (web, *ports)))
        assert code == 0, said
        found: list[str] = json.loads(said)
        return found

    *found, address = called(out.greeter, out.unlisted.getsockname()[1])
    assert found == [f"{name}:{web}", "hello", ""]
    (network,) = [each for each in labelled(engine, mesh.state) if "IPAM" in each]
    assert ipaddress.ip_address(address) in ipaddress.ip_network(network["IPAM"]["Config"][0]["Subnet"])
    with mesh.applied(entry):
        # Then the app has an address that leads into its proxy, and the proxy has the real one.
        until(lambda: called()[-1].startswith("240.240."), "the name is the entry's")
        until(lambda: called(out.greeter)[:2] == [f"{name}:{web}", "hello"], "the proxy leads there")
    out.unlisted.setblocking(False)
    with pytest.raises(BlockingIOError):
        out.unlisted.accept()


def test_rules_cannot_be_changed_nor_passed_by_from_an_app(mesh: Meshdrill, engine: Any) -> None:
    inside = Inside(engine, mesh, "front")
    assert inside.run("app", "iptables", "-t", "nat", "-F")[0] != 0
    assert inside.run("app", "setpriv", "--reuid=1337", "--clear-groups", "true")[0] != 0
    ask = "import urllib.request as u; print(u.urlopen('http://{}').headers['server'])"
    address = Inside(engine, mesh, "back").pod.ip
    code, server = inside.run("app", "python3", "-c", ask.format(f"{address}:8000/"))
    assert (code, server.strip()) in ((0, "envoy"), (0, "istio-envoy"))
    # What is outside of the mesh's network is not reached at all.
    assert inside.run("app", "python3", "-c", ask.format("192.0.2.1/"))[0] != 0


def test_a_killed_app_comes_back_in_the_same_pod(mesh: Meshdrill, engine: Any) -> None:
    inside = Inside(engine, mesh, "back")

    def restarts() -> int:
        with mesh.client() as client:
            pod = next(pod for pod in client.pods() if pod.name == inside.pod.name)
        status = next(s for s in pod.manifest["status"]["containerStatuses"] if s["name"] == "app")
        return int(status["restartCount"]) if status["ready"] else 0

    before = restarts()
    engine.api.kill(inside.id("app"), 9)
    until(lambda: restarts() > before, "the app is back")
    until(lambda: mesh.get()[0] == 200, "the page is back")
    assert mesh.get()[1]["backend"]["pod"] == inside.pod.name


CALLS = """
import socket
try:
    socket.create_connection(("back", 8000), timeout=10)
except OSError as error:
    print(type(error).__name__, flush=True)
"""


def test_init_containers_run_in_the_pods_network_before_the_sidecar_and_the_app(mesh: Meshdrill, engine: Any) -> None:
    manifests = [each for each in shop_of_images(SHOP_IMAGE) if each["metadata"]["name"] == "back"]
    for manifest in manifests:
        manifest["metadata"]["name"] = "slow"
    deployment = manifests[-1]["spec"]
    labels = {"app": "slow"}
    deployment["selector"] = {"matchLabels": labels}
    deployment["template"]["metadata"] = {"labels": labels}
    deployment["template"]["spec"]["initContainers"] = [
        {"name": "calls", "image": SHOP_IMAGE, "command": ["python3", "-c", CALLS]},
        {"name": "waits", "image": SHOP_IMAGE, "command": ["sh", "-c", "until test -e /tmp/go; do sleep 0.1; done"]},
    ]
    with mesh.client() as client:

        def word() -> str:
            return next((pod_word(pod.manifest) for pod in client.pods() if pod.labels.get("app") == "slow"), "")

        client.apply(manifests[-1])
        until(lambda: word() == "Init:1/2", "the second one runs")
        inside = Inside(engine, mesh, "slow")
        assert set(inside.containers) == {"POD", "calls", "waits"}
        assert mesh.run("logs", "deploy/slow", "-c", "calls").stdout == "ConnectionRefusedError\n"
        assert inside.run("waits", "touch", "/tmp/go") == (0, "")
        until(lambda: Inside(engine, mesh, "slow").pod.ready, "it is through, and the app is ready")
        client.delete("Deployment", "slow")
        until(lambda: not word(), "it is gone")


def with_volumes(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, and each app has an empty folder and a Secret's file."""
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            spec = manifest["spec"]["template"]["spec"]
            spec["volumes"] = [
                {"name": "shared", "emptyDir": {}},
                {"name": "secret", "secret": {"secretName": "own"}},
            ]
            spec["containers"][0]["volumeMounts"] = [
                {"name": "shared", "mountPath": "/shared"},
                {"name": "secret", "mountPath": "/secret"},
            ]
    return [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own"}, "stringData": {"key": "x"}}, *manifests]


def volumes_of(engine: Any, mesh: Meshdrill) -> list[str]:
    """Names of the engine's volumes that are the mesh's."""
    from mesh.platforms.docker.ownership import Ownership

    found = engine.api.volumes()["Volumes"] or ()
    return [each["Name"] for each in found if Ownership.of(mesh.state).covers(each.get("Labels"))]


def test_nothing_is_left_of_a_killed_up_and_nothing_else_is_touched(engine: Any, meshdrill: Meshdrill) -> None:
    stranger = engine.api.create_container(SHOP_IMAGE, labels={"meshdrill.dev/mesh": "default"})["Id"]
    engine.api.start(stranger)
    try:
        file = meshdrill.write("shop.yaml", with_volumes(shop_of_images(SHOP_IMAGE)))
        with meshdrill.up_in_front("-f", file, "--platform", "docker") as process:
            assert len(volumes_of(engine, meshdrill)) == 2
            assert len(list((meshdrill.state / "volumes").glob("*/secret/key"))) == 2
            (network,) = [each for each in labelled(engine, meshdrill.state) if "IPAM" in each]
            engine.api.connect_container_to_network(stranger, network["Id"])
            assert len(labelled(engine, meshdrill.state)) > 8
            process.kill()
            process.wait()
            down = meshdrill.run("down")
        assert (down.returncode, labelled(engine, meshdrill.state)) == (0, []), down.stderr
        assert volumes_of(engine, meshdrill) == []
        assert not (meshdrill.state / "engine").exists()
        assert not (meshdrill.state / "volumes").exists()
        facts = engine.api.inspect_container(stranger)
        assert facts["State"]["Running"]
        assert network["Name"] not in facts["NetworkSettings"]["Networks"]
    finally:
        engine.remove(stranger)


def test_up_again_after_a_kill_while_it_came_up(engine: Any, meshdrill: Meshdrill) -> None:
    file = meshdrill.write("shop.yaml", shop_of_images(SHOP_IMAGE))
    command = meshdrill.command("up", "--port", str(meshdrill.port), "-f", file, "--platform", "docker")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    until(lambda: len(labelled(engine, meshdrill.state)) > 3, "the first containers are there")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with meshdrill.up_in_front("-f", file, "--platform", "docker"):
        assert meshdrill.get()[0] == 200
    assert labelled(engine, meshdrill.state) == []


def test_an_image_that_cannot_come_is_told_by_name(engine: Any, meshdrill: Meshdrill) -> None:
    manifests = shop_of_images(SHOP_IMAGE)
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "nobody/has:this"
    done = meshdrill.up("-f", meshdrill.write("shop.yaml", manifests), "--platform", "docker")
    assert done.returncode == 1
    assert "image nobody/has:this is not there, and imagePullPolicy is Never" in done.stdout + done.stderr
    assert labelled(engine, meshdrill.state) == []
