"""`meshdrill up --platform netns`, whole meshes: rootless too, sealed off, gone with the command however it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_user import NOBODY, ROOT, unprivileged
from meshdrill_command import Meshdrill, in_pod, pids_of, shop, until, why_no_netns, workload

STRICT = {
    "apiVersion": "security.istio.io/v1",
    "kind": "PeerAuthentication",
    "metadata": {"name": "default", "namespace": "istio-system"},
    "spec": {"mtls": {"mode": "STRICT"}},
}
CALL = """
import os, sys, urllib.request
try:
    request = urllib.request.Request(sys.argv[1], headers={"Host": "back:8000"})
    with urllib.request.urlopen(request, timeout=5) as response:
        print(response.status)
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture(autouse=True)
def possible() -> None:
    if reason := why_no_netns():
        pytest.skip(f"no network namespaces: {reason}")


def environment_of(shim: int) -> dict[str, str]:
    """Of the app below what stands for its container."""
    pids = [shim]
    while children := Path(f"/proc/{pids[-1]}/task/{pids[-1]}/children").read_text().split():
        pids.append(int(children[0]))
    pairs = Path(f"/proc/{pids[-1]}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def test_apps_know_of_no_proxy_and_nobody_gets_around_a_sidecar(meshdrill: Meshdrill) -> None:
    outside = workload("outside")
    outside[-1]["spec"]["template"]["metadata"]["annotations"] = {"sidecar.istio.io/inject": "false"}
    file = meshdrill.write("shop.yaml", [*shop(), *outside, STRICT])
    with meshdrill.up_in_front("-f", file, "--platform", "netns"), meshdrill.client() as client:
        assert meshdrill.get()[1]["backend"]["color"] == "red"
        pods = {pod.workload: pod for pod in client.pods()}
        (front,) = pids_of(meshdrill.state, f"{pods['front'].name}.app")
        variables = environment_of(front)
        assert not [name for name in variables if "proxy" in name.lower()]
        assert (variables["HOST"], variables["PORT"]) == ("0.0.0.0", "8000")
        (stranger,) = pids_of(meshdrill.state, f"{pods['outside'].name}.app")
        call = [sys.executable, "-c", CALL, f"http://{pods['back'].ip}:8000/health"]
        assert in_pod(stranger, *call) in {"ConnectionResetError", "RemoteDisconnected", "URLError"}
        assert in_pod(front, *call) == "200"  # the same call, through a sidecar of the mesh


@pytest.mark.parametrize("victim", ["up", "node"])
def test_after_sigkill_nothing_is_left_and_the_next_mesh_comes_up(meshdrill: Meshdrill, victim: str) -> None:
    file = meshdrill.write("shop.yaml", shop())
    with meshdrill.up_in_front("-f", file, "--platform", "netns") as process:
        members = meshdrill.processes()
        assert len(members) >= 8  # the control plane, two apps, three agents with their proxies
        os.kill(process.pid if victim == "up" else node_of(process.pid), signal.SIGKILL)
        process.wait(20)
        until(lambda: not meshdrill.processes(), "all processes of the mesh are gone")
        until(lambda: not [pid for pid in members if Path(f"/proc/{pid}").exists()], "every one of them")
    with meshdrill.up_in_front("-f", file, "--platform", "netns"):
        assert meshdrill.get()[0] == 200


def test_a_mesh_that_is_stopped_while_it_comes_up_goes_down_again(meshdrill: Meshdrill) -> None:
    file = meshdrill.write("shop.yaml", shop())
    command = meshdrill.command("up", "--port", str(meshdrill.port), "-f", file, "--platform", "netns")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    until(meshdrill.processes, "the first processes run")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert not meshdrill.processes()


def node_of(pid: int) -> int:
    """The second process of the lab whose parent is outside."""
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        if next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1] == "2":
            return pid
        pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of an unprivileged user's, with a Python environment like ours in it."""
    *_, python = unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="mesh-"))
    folder.chmod(0o755)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "env" / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (folder / "env" / "bin").mkdir()
    (folder / "env" / "bin" / "python").symlink_to(python)
    (folder / "env" / "pyvenv.cfg").write_text(f"home = {Path(python).parent}\n")
    ours = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    (packages / "ours.pth").write_text("\n".join(ours))
    if os.geteuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            os.lchown(path, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def test_an_unprivileged_user_has_a_whole_mesh(home: Path) -> None:
    *become, _ = unprivileged()
    command = Meshdrill(home / "state")
    (home / "work").mkdir()
    file = command.write("shop.yaml", shop())
    if os.geteuid() == 0:
        os.chown(home / "work", NOBODY, NOBODY)
    environment = {"PATH": os.defpath, "HOME": str(home)}
    meshdrill = [*become, str(home / "env" / "bin" / "python"), "-m", "mesh.cli.main"]
    options = ["--state", str(command.state)]

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*meshdrill, *arguments, *options],
            env=environment,
            cwd=home / "work",
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    up = run("up", "-d", "-f", file, "--platform", "netns", "--port", str(command.port))
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        status, answer = command.get()
        assert (status, answer["backend"]["color"]) == (200, "red")
        shown: dict[str, Any] = json.loads(run("status", "-o", "json").stdout)
        assert shown
    finally:
        down = run("down")
    assert down.returncode == 0, down.stdout + down.stderr
    until(lambda: not command.processes(), "nothing of it is left")
