"""Pods whose app runs what a test sends it, in its container (`attacker.py`)."""

import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
from meshdrill_command import Meshdrill, pids_of, workload

from mesh.client import Pod

APP = Path(__file__).parent / "attacker.py"
TOOLS = """
import ctypes, json, os, socket, ssl, stat, struct, subprocess, sys, urllib.error, urllib.request
libc = ctypes.CDLL(None, use_errno=True)

def tried(attempt):
    try:
        result = attempt()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "done" if result is None else result

def called(name, *arguments):
    def attempt():
        if getattr(libc, name)(*arguments) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    return attempt

def http(url, **headers):
    def attempt():
        request = urllib.request.Request(url, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return [response.status, response.read(300).decode(errors="replace")]
        except urllib.error.HTTPError as error:
            return [error.code, error.read(300).decode(errors="replace")]
    return attempt

def tcp(host, port):
    def attempt():
        with socket.create_connection((host, port), 10) as sock:
            sock.sendall(b"?")
            return sock.recv(100).decode(errors="replace")
    return attempt

def whole(path):
    with open(path, "rb") as file:
        return file.read(300_000).decode(errors="replace")

def control():
    return next(line.split()[1] for line in whole("/etc/resolv.conf").splitlines() if line.startswith("nameserver"))
"""


@dataclass
class Scene:
    mesh: Meshdrill
    pods: dict[str, Pod]

    @classmethod
    def of(cls, mesh: Meshdrill) -> Self:
        with mesh.client() as client:
            return cls(mesh, {pod.workload: pod for pod in client.pods()})

    def run(self, name: str, source: str, *arguments: object) -> Any:
        """What the app `name` finds, by a source that calls `show`."""
        code = f"{TOOLS}arguments = {list(arguments)!r}\ndef show(found): print(json.dumps(found))\n{source}".encode()
        address, port = self.pods[name].reach(8000)
        with urllib.request.urlopen(f"http://{address}:{port}/", data=code, timeout=90) as response:
            text = response.read().decode()
        try:
            return json.loads(text)
        except ValueError:
            pytest.fail(text)

    def pid(self, name: str) -> int:
        """Of what stands for the app's container."""
        (found,) = pids_of(self.mesh.state, f"{self.pods[name].name}.app")
        return found


def app(name: str, **container: object) -> list[dict[str, Any]]:
    """`container` are fields of its container."""
    manifests = workload(name)
    template = manifests[-1]["spec"]["template"]
    template["spec"]["containers"][0].update({"command": ["python", str(APP), "8000"], **container})
    return manifests
