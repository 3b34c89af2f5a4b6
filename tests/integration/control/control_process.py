"""The real control plane as a process, at an address of its own."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.client import MeshClient

API_PORT, XDS_PORT = 15014, 15012
PATIENCE_S = 20.0
SIDECAR = {"security.istio.io/tlsMode": "istio"}


def free_address() -> str:
    """A loopback address, outside the blocks that meshes take, where nobody listens on the control plane's ports."""
    while True:
        address = f"127.{random.randint(130, 250)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
        try:
            for port in (API_PORT, XDS_PORT):
                socket.create_server((address, port)).close()
        except OSError:
            continue
        return address


@dataclass
class ControlProcess:
    """One state folder and, most of the time, the control plane that owns it."""

    state: Path
    address: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> MeshClient:
        """Start it and return the admin's client once it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._write_mesh_json()
        client = self.client()
        deadline = time.monotonic() + PATIENCE_S
        while not client.is_ready():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        return client

    def client(self) -> MeshClient:
        return MeshClient.from_state(self.state, timeout_s=PATIENCE_S)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "mesh.control", "--state", str(self.state), "--address", self.address]

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run one that is expected to end by itself."""
        return subprocess.run(self.command(), capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code after `number`."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        self.process = None
        return code

    @property
    def log(self) -> Path:
        return self.state.parent / f"{self.state.name}.log"

    @property
    def root_cert(self) -> Path:
        return self.state / "ca" / "root-cert.pem"

    def _write_mesh_json(self) -> None:
        mesh = {
            "name": "test",
            "api": f"https://{self.address}:{API_PORT}",
            "token_file": "token",
            "root_cert": "ca/root-cert.pem",
            "gateway": "http://127.0.0.1:9080",
            "engine": "python",
            "platform": "process",
            "node_pid": 1,
            "lacking": {},
        }
        (self.state / "mesh.json").write_text(json.dumps(mesh))


Manifest = dict[str, Any]


def virtual_service(name: str, subset: str = "v1", **labels: str) -> Manifest:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"hosts": [name], "http": [{"route": [{"destination": {"host": name, "subset": subset}}]}]},
    }


def service(name: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 9080}]},
    }


def pod(name: str, account: str, ip: str, namespace: str = "default") -> Manifest:
    """A ready pod with a sidecar."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name.partition("-")[0], **SIDECAR}},
        "spec": {
            "serviceAccountName": account,
            "containers": [
                {"name": "app", "image": "app", "ports": [{"containerPort": 9080}]},
                {"name": "istio-proxy", "image": "proxy"},
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def subset_of(manifest: Manifest) -> str:
    subset: str = manifest["spec"]["http"][0]["route"][0]["destination"]["subset"]
    return subset
