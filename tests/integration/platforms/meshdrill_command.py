"""Runs `meshdrill up` as users do, with manifests of the tests' own, and sees that nothing is left of it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.client import MeshClient
from mesh.platforms.process.ledger import Ledger, Record, marked

SHOP = Path(__file__).parent / "shop.py"
WAIT_S = 30.0


def until(condition: Callable[[], Any], what: str, patience_s: float = WAIT_S) -> Any:
    """The first true value of `condition`; fails the test when there is none in time."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    pytest.fail(f"not within {patience_s} s: {what}")


def why_no_netns() -> str:
    """Why this machine cannot make labs of namespaces; nothing if it can. Asked in a process without threads."""
    code = "from mesh.platforms.netns.availability import why_not; print(why_not())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def pid_here(record: Record) -> int | None:
    """The pid of a process that another pid namespace, maybe, knows by the recorded one."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(folder / "ns" / "pid") != record.space:
                continue
            numbers = next(line for line in (folder / "status").read_text().splitlines() if line.startswith("NSpid:"))
        except OSError:
            continue  # it has ended meanwhile, or is somebody else's
        if int(numbers.split()[-1]) == record.pid:
            return int(folder.name)
    return None


def pids_of(state: Path, label: str) -> list[int]:
    """Of all records of that name, the processes that live."""
    found = [pid_here(record) for record in Ledger(state).records() if record.name == label]
    return [pid for pid in found if pid is not None]


def in_pod(pid: int, *command: str) -> str:
    """Runs a command in the network of a process, with nothing else of its pod."""
    spaces = [f"--net=/proc/{pid}/ns/net"]
    if os.geteuid() != 0:  # root is at home in the lab's user namespace, which is the host's
        spaces += [f"--user=/proc/{pid}/ns/user", "--preserve-credentials"]
    done = subprocess.run(
        ["nsenter", *spaces, *command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout.strip() + done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def workload(name: str, *, replicas: int = 1, **env: str) -> list[dict[str, Any]]:
    """Service, account and Deployment of one shop app; variables are given in capitals."""
    variables = [{"name": key, "value": value} for key, value in env.items()]
    variables.append({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
    container = {
        "name": "app",
        "command": ["python", str(SHOP), "$(PORT)"],
        "env": variables,
        "ports": [{"name": "http", "containerPort": 8000}],
        # A loaded machine may take its time to answer; that is not what these tests are about.
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 10},
    }
    labels = {"app": name}
    spec = {"serviceAccountName": name, "containers": [container]}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 8000}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        },
    ]


def way_in(host: str) -> list[dict[str, Any]]:
    """A gateway that sends everything to `host`."""
    server = {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    route = {"route": [{"destination": {"host": host, "port": {"number": 8000}}}]}
    return [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "shop"},
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "shop"},
            "spec": {"hosts": ["*"], "gateways": ["shop"], "http": [route]},
        },
    ]


def shop() -> list[dict[str, Any]]:
    """Two services: front calls back."""
    return [
        *workload("front", BACKEND_URL="http://back:8000/"),
        *workload("back", COLOR="red"),
        *way_in("front"),
    ]


def shop_of_images(image: str) -> list[dict[str, Any]]:
    """The shop as its image runs it: without a command, on its port, with no variable of ours."""
    manifests = shop()
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            container = manifest["spec"]["template"]["spec"]["containers"][0]
            del container["command"]
            container |= {"image": image, "imagePullPolicy": "Never"}
    return manifests


@dataclass
class Meshdrill:
    """The command, with a state folder and a port of its own; `python` may become somebody else first."""

    state: Path
    port: int = field(default_factory=free_port)
    python: Sequence[str] = (sys.executable,)
    environment: Mapping[str, str] | None = None

    def write(self, name: str, manifests: list[dict[str, Any]]) -> str:
        file = self.state.parent / name
        file.write_text(yaml.safe_dump_all(manifests))
        return str(file)

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def command(self, *arguments: str) -> list[str]:
        return [*self.python, "-m", "mesh.cli.main", *arguments, "--state", str(self.state)]

    def up(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("up", "--port", str(self.port), *arguments)

    @contextlib.contextmanager
    def up_in_front(self, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
        """`up` in the foreground, ready."""
        command = self.command("up", "--port", str(self.port), *arguments)
        process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        try:
            seen = []
            for line in process.stdout:
                seen.append(line)
                if line.startswith("http://"):
                    break
            else:
                pytest.fail("".join(seen))
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(30)
            process.stdout.close()

    def get(self, path: str = "/") -> tuple[int, dict[str, Any]]:
        """Status and JSON of a page through the gateway; (0, {}) when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, {}
        except OSError:
            return 0, {}

    @contextlib.contextmanager
    def applied(self, *manifests: dict[str, Any]) -> Iterator[None]:
        """Resources that every sidecar has taken, for the length of the block."""
        done = self.run("apply", "-f", self.write("applied.yaml", list(manifests)), "--wait")
        assert done.returncode == 0, done.stderr
        try:
            yield
        finally:
            with self.client() as client:
                for manifest in reversed(manifests):
                    meta = manifest["metadata"]
                    client.delete(manifest["kind"], meta["name"], meta.get("namespace", "default"))
                client.wait_synced()

    def client(self) -> MeshClient:
        return MeshClient.from_state(self.state)

    def processes(self) -> set[int]:
        """All processes that carry this mesh's mark, whoever their parent is."""
        return marked(str(self.state)) - {os.getpid()}
