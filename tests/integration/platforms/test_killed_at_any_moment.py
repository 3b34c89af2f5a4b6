"""SIGKILL of `up` at random moments, from its start to well after "ready": `down` leaves nothing, the next comes up.

`pytest --kills 15 --kill-seed 7 tests/integration/platforms/test_killed_at_any_moment.py` kills more often, elsewhere.
"""

import contextlib
import os
import random
import re
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from meshdrill_command import Meshdrill, shop, shop_of_images, until, why_no_netns

from mesh.platforms.base import PlatformError
from mesh.platforms.process.ledger import start_time
from tests.docker_engine import SHOP_IMAGE, labelled, prepare

SPANS_S = {"process": 5.0, "netns": 5.0, "docker": 10.0}
"""The shop is ready after two or three, in containers after five."""
KINDS = ("net", "pid", "mnt", "user")
KEPT = {"ca", "control.lock", "lock", "logs", "pods", "processes", "store.db", "store.db-shm", "store.db-wal", "token"}
"""What `down` leaves in the state folder, for whoever looks into the logs, until the next `up`."""
MARK = "KILLED_AT_ANY_MOMENT"


class Victim:
    """One `up`, and whatever belongs to it: told by a variable that it inherits, or by the mesh's own."""

    def __init__(self, meshdrill: Meshdrill, file: str, platform: str, temporary: Path) -> None:
        self._meshdrill = meshdrill
        self._mark = uuid.uuid4().hex
        self.environment = os.environ | {MARK: self._mark, "TMPDIR": str(temporary)}
        command = meshdrill.command("up", "--port", str(meshdrill.port), "-f", file, "--platform", platform)
        self.process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def members(self) -> set[int]:
        wanted = f"{MARK}={self._mark}".encode()
        found = self._meshdrill.processes()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.add(int(folder.name))
            except OSError:
                continue  # it has ended meanwhile, or is somebody else's
        return {pid for pid in found if start_time(pid) is not None}

    def kill_after(self, moment: float) -> set[str]:
        """Its namespaces at that moment, which are not ours."""
        threading.Event().wait(moment)
        found = namespaces(self.members()) - namespaces({os.getpid()})
        self.process.kill()
        self.process.wait()
        self.killed_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        return found

    def contemporaries(self) -> set[int]:
        """All processes that began before the kill: to later ones, of others, the kernel may give the same namespaces'
        numbers again."""
        ticks = os.sysconf("SC_CLK_TCK")
        began = {int(folder.name): start_time(int(folder.name)) for folder in Path("/proc").glob("[0-9]*")}
        return {pid for pid, at in began.items() if at is not None and int(at) / ticks <= self.killed_at}


def namespaces(pids: set[int]) -> set[str]:
    found = set()
    for pid in pids:
        for kind in KINDS:
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                continue  # it has ended meanwhile
    return found


def host_network() -> list[str]:
    """Interfaces and rules of netfilter that look like ours, in the host's own network."""
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False).stdout
    found = [line.split()[0] for line in links.splitlines()] + rules.splitlines()
    return [line for line in found if re.search(r"^pod\d|ISTIO_|10\.244\.|1337|\b1500[16]\b", line)]


@pytest.fixture
def temporary() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    yield folder
    shutil.rmtree(folder)


class InEngine:
    """What a Docker engine holds of a mesh, and what of that the host sees. Nothing on other platforms."""

    def __init__(self, engine: Any, state: Path) -> None:
        self._engine = engine
        self._state = state
        self._pids: dict[int, str | None] = {}
        self._bridges: set[str] = set()

    def note(self) -> None:
        """What is there now, which the mesh's reaper may be removing already."""
        for found in self.left():
            if "IPAM" in found:
                self._bridges.add(f"br-{found['Id'][:12]}")
                continue
            try:
                pid = self._engine.do(self._engine.api.inspect_container, found["Id"])["State"]["Pid"]
            except PlatformError:
                continue  # it has gone meanwhile
            if pid:
                self._pids[pid] = start_time(pid)

    def left(self) -> list[dict[str, Any]]:
        return [] if self._engine is None else labelled(self._engine, self._state)

    def living(self) -> list[int]:
        """First processes of containers, with which all others in there end."""
        return [pid for pid, started in self._pids.items() if started is not None and start_time(pid) == started]

    def of_the_network(self) -> list[str]:
        """Interfaces and rules of the mesh's networks."""
        commands = (["ip", "-br", "link"], ["ip", "route"], ["iptables-save"])
        said = [subprocess.run(each, capture_output=True, text=True, check=False).stdout for each in commands]
        lines = "\n".join(said).splitlines()
        return [line for line in lines if any(bridge in line for bridge in self._bridges)]


@pytest.mark.parametrize("platform", ["process", "netns", "docker"])
@pytest.mark.timeout(1200)  # the first on docker builds images
def test_nothing_is_left_and_the_next_mesh_comes_up(
    meshdrill: Meshdrill, request: pytest.FixtureRequest, temporary: Path, platform: str
) -> None:
    if platform == "netns" and (reason := why_no_netns()):
        pytest.skip(f"no network namespaces: {reason}")
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(contextlib.closing(prepare(temporary))) if platform == "docker" else None
        for made in temporary.iterdir():
            made.unlink()
        kill_again_and_again(meshdrill, request, temporary, platform, engine)


def kill_again_and_again(
    meshdrill: Meshdrill, request: pytest.FixtureRequest, temporary: Path, platform: str, engine: Any
) -> None:
    file = meshdrill.write("shop.yaml", shop() if engine is None else shop_of_images(SHOP_IMAGE))
    beside, before = set(meshdrill.state.parent.iterdir()), host_network()
    moments = random.Random(request.config.getoption("--kill-seed"))
    kills = request.config.getoption("--kills")
    for _ in range(kills):
        victim = Victim(meshdrill, file, platform, temporary)
        seen = victim.kill_after(moments.uniform(0, SPANS_S[platform]))
        containers = InEngine(engine, meshdrill.state)
        containers.note()
        down = meshdrill.run("down")
        assert down.returncode == 0, down.stdout + down.stderr
        until(lambda victim=victim: not victim.members(), "no process is left")
        until(lambda seen=seen, v=victim: not seen & namespaces(v.contemporaries()), "no namespace is left")
        assert host_network() == before
        assert containers.left() == []
        until(lambda containers=containers: not containers.living(), "no container's process is left")
        assert containers.of_the_network() == []
        assert set(meshdrill.state.parent.iterdir()) <= beside | {meshdrill.state}
        if meshdrill.state.exists():
            assert {path.name for path in meshdrill.state.iterdir()} <= KEPT
            assert not list((meshdrill.state / "processes").iterdir())
        locks = f"meshdrill-{os.geteuid()}"
        assert {path.name for path in temporary.iterdir()} <= {locks}
        assert all(path.stat().st_size == 0 for path in temporary.glob(f"{locks}/*"))
    with meshdrill.up_in_front("-f", file, "--platform", platform):
        assert meshdrill.get()[0] == 200
