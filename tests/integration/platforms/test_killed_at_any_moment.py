"""SIGKILL of `up` at random moments, from its start to well after "ready": `down` leaves nothing, the next comes up.

`pytest --kills 15 --kill-seed 7 tests/integration/platforms/test_killed_at_any_moment.py` kills more often, elsewhere.
"""

import os
import random
import re
import shutil
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from meshdrill_command import Meshdrill, shop, until, why_no_netns

from mesh.platforms.process.ledger import start_time

SPAN_S = 5.0
"""The shop is ready after two or three."""
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
        return found


def namespaces(pids: set[int]) -> set[str]:
    found = set()
    for pid in pids:
        for kind in KINDS:
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                continue  # it has ended meanwhile
    return found


def everybodys() -> set[int]:
    return {int(folder.name) for folder in Path("/proc").glob("[0-9]*")}


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


@pytest.mark.parametrize("platform", ["process", "netns"])
def test_nothing_is_left_and_the_next_mesh_comes_up(
    meshdrill: Meshdrill, request: pytest.FixtureRequest, temporary: Path, platform: str
) -> None:
    if platform == "netns" and (reason := why_no_netns()):
        pytest.skip(f"no network namespaces: {reason}")
    file = meshdrill.write("shop.yaml", shop())
    beside, before = set(meshdrill.state.parent.iterdir()), host_network()
    moments = random.Random(request.config.getoption("--kill-seed"))
    kills = request.config.getoption("--kills")
    for _ in range(kills):
        victim = Victim(meshdrill, file, platform, temporary)
        seen = victim.kill_after(moments.uniform(0, SPAN_S))
        down = meshdrill.run("down")
        assert down.returncode == 0, down.stdout + down.stderr
        until(lambda victim=victim: not victim.members(), "no process is left")
        until(lambda seen=seen: not seen & namespaces(everybodys()), "no namespace is left")
        assert host_network() == before
        assert set(meshdrill.state.parent.iterdir()) <= beside | {meshdrill.state}
        if meshdrill.state.exists():
            assert {path.name for path in meshdrill.state.iterdir()} <= KEPT
            assert not list((meshdrill.state / "processes").iterdir())
        locks = f"meshdrill-{os.geteuid()}"
        assert {path.name for path in temporary.iterdir()} <= {locks}
        assert all(path.stat().st_size == 0 for path in temporary.glob(f"{locks}/*"))
    with meshdrill.up_in_front("-f", file, "--platform", platform):
        assert meshdrill.get()[0] == 200
