"""Bookinfo as a compose file, run by docker compose itself: served by sidecars, locked down, and gone with `down`."""

import contextlib
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from meshdrill_command import free_port, until

from tests.docker_engine import prepare_bookinfo

pytestmark = [pytest.mark.timeout(1200), pytest.mark.bookinfo]  # the first of these builds images

UP_S = 300
PATIENCE_S = 120.0
PROJECT = "com.docker.compose.project"
STRICT = {
    "apiVersion": "security.istio.io/v1",
    "kind": "PeerAuthentication",
    "metadata": {"name": "default", "namespace": "istio-system"},
    "spec": {"mtls": {"mode": "STRICT"}},
}
ASK = """
import sys, urllib.request as u
print(u.urlopen(sys.argv[1], timeout=10).status)
"""


def compose_command() -> list[str]:
    """Version 2 is a plugin, version 1 (Debian's) a command; the test is skipped where there is neither."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        if subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip("there is neither `docker compose` nor `docker-compose` (Debian: docker-compose)")


@dataclass
class Composed:
    """A project of docker compose, written by `meshdrill compose`."""

    command: Sequence[str]
    folder: Path
    port: int
    api: Any

    def run(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [*self.command, "-f", str(self.folder / "compose.yaml"), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=UP_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def page(self) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/productpage", timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, ""
        except OSError:
            return 0, ""

    def is_complete(self) -> bool:
        """Whether the page has what three services tell: the details, the reviews and, of two versions, the stars."""
        status, page = self.page()
        return status == 200 and "data-version=" in page and "data-color=" in page and "unavailable" not in page

    def facts(self) -> dict[str, dict[str, Any]]:
        """What the engine knows of each service's container."""
        found = self.api.containers(all=True, filters={"label": f"{PROJECT}={self.folder.name}"})
        return {each["Labels"]["com.docker.compose.service"]: self.api.inspect_container(each["Id"]) for each in found}

    def inside(self, service: str, *command: str) -> tuple[int, str]:
        made = self.api.exec_create(self.facts()[service]["Id"], list(command))["Id"]
        output = self.api.exec_start(made).decode(errors="replace")
        return self.api.exec_inspect(made)["ExitCode"], output

    def left(self) -> list[Any]:
        only = {"label": f"{PROJECT}={self.folder.name}"}
        volumes = self.api.volumes(filters=only)["Volumes"] or []
        return [*self.api.containers(all=True, filters=only), *self.api.networks(filters=only), *volumes]


@pytest.fixture(scope="module", params=["python", pytest.param("envoy", marks=pytest.mark.envoy)])
def composed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    command = compose_command()
    with contextlib.closing(prepare_bookinfo()) as engine:
        folder = tmp_path_factory.mktemp(f"{request.param}-bookinfo") / f"meshdrill-{request.param}-{free_port()}"
        port = free_port()
        written = [sys.executable, "-m", "mesh.cli.main", "compose", "--out", str(folder), "--port", str(port)]
        subprocess.run([*written, "--proxy", request.param, "--subnet", "10.246.77.0/24"], check=True, timeout=60)
        project = Composed(command, folder, port, engine.api)
        try:
            project.run("up", "-d")
            until(
                lambda: project.facts()["node"]["State"]["Health"]["Status"] == "healthy",
                "the mesh is ready",
                PATIENCE_S,
            )
            yield project
        finally:
            project.run("down", "-v")
        assert project.left() == []


def test_the_page_is_complete_and_the_control_plane_knows_the_pods(composed: Composed) -> None:
    until(composed.is_complete, "the page has its stars", PATIENCE_S)
    status = composed.run("exec", "-T", "node", "meshdrill", "status", "-o", "json")
    pods = {pod["name"]: pod for pod in json.loads(status)["pods"]}
    assert set(pods) == {
        "details-v1",
        "istio-ingressgateway",
        "productpage-v1",
        "ratings-v1",
        "reviews-v1",
        "reviews-v2",
        "reviews-v3",
    }
    assert all(pod["ready"] for pod in pods.values())


def test_sidecars_speak_mutual_tls_and_nobody_gets_past_them(composed: Composed) -> None:
    composed.run("exec", "-T", "node", "meshdrill", "apply", "--wait", "-f", "-", stdin=yaml.safe_dump(STRICT))
    until(composed.is_complete, "the page has its stars under STRICT mutual TLS", PATIENCE_S)
    details = composed.facts()["details-v1"]["NetworkSettings"]["Networks"]
    (address,) = [network["IPAddress"] for network in details.values()]
    # By the sidecar's uid the rules of its own pod let it by: this is plain text from another pod.
    plain = f"http://{address}:9080/details/0"
    assert composed.inside("ratings-v1.istio-proxy", "python", "-c", ASK, plain)[0] != 0
    assert composed.inside("ratings-v1.ratings", "python", "-c", ASK, "http://details:9080/details/0") == (0, "200\n")
    composed.run("exec", "-T", "node", "meshdrill", "delete", "PeerAuthentication", "default", "-n", "istio-system")


def test_no_container_has_a_privilege_and_apps_see_no_secret(composed: Composed) -> None:
    facts = composed.facts()
    running = {name: each for name, each in facts.items() if each["State"]["Running"]}
    assert {name for name in facts if name not in running} == {name for name in facts if name.endswith(".istio-init")}
    for name in running:
        code, status = composed.inside(name, "cat", "/proc/1/status")
        assert code == 0
        held = dict(line.split(":\t", 1) for line in status.splitlines())
        assert {int(held[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}, name
        assert (held["NoNewPrivs"], held["Uid"].split()[0] == "0") == ("1", False), name
    app = facts["reviews-v1.reviews"]
    assert {mount["Destination"] for mount in app["Mounts"]} == {"/etc/resolv.conf", "/etc/hosts"}
    for secret in ("/etc/istio/proxy/token", "/etc/istio/proxy/secrets/key.pem"):
        assert composed.inside("reviews-v1.istio-proxy", "test", "-s", secret)[0] == 0
        assert composed.inside("reviews-v1.reviews", "cat", secret)[0] != 0
    code, token = composed.inside("node", "cat", "/var/lib/meshdrill/token")
    assert code == 0
    assert token.strip() not in json.dumps(facts) + (composed.folder / "compose.yaml").read_text()


def test_only_the_gateway_is_published_on_loopback_and_pods_are_in_an_internal_network(composed: Composed) -> None:
    published = {name: each["HostConfig"]["PortBindings"] for name, each in composed.facts().items()}
    assert {name: ports for name, ports in published.items() if ports} == {
        "istio-ingressgateway": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(composed.port)}]}
    }
    networks = composed.api.networks(filters={"label": f"{PROJECT}={composed.folder.name}"})
    assert {network["Labels"]["com.docker.compose.network"]: network["Internal"] for network in networks} == {
        "mesh": True,
        "edge": False,
    }
    (edge,) = [network for network in networks if not network["Internal"]]
    assert edge["Options"]["com.docker.network.bridge.enable_ip_masquerade"] == "false"
    assert list(composed.api.inspect_network(edge["Id"])["Containers"]) == [
        composed.facts()["istio-ingressgateway"]["Id"]
    ]


def test_an_app_that_ends_comes_back_and_the_page_with_it(composed: Composed) -> None:
    composed.inside("details-v1.details", "sh", "-c", "kill -9 -1")  # the engine takes its own kill for a stop
    until(lambda: composed.facts()["details-v1.details"]["RestartCount"] == 1, "compose starts it again", PATIENCE_S)
    until(composed.is_complete, "the page is complete again", PATIENCE_S)
