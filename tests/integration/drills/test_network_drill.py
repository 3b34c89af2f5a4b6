"""The drill of the network: passes where pods have one, on both engines; guards what it says; is skipped elsewhere.

In containers `tests/e2e` runs it.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bookinfo_mesh import Bookinfo, built_in, end, running, until

from mesh.client import POD_FAULT_CONDITION

NAME = "network-partition"
pytestmark = pytest.mark.bookinfo


@pytest.fixture(scope="module", params=["python", pytest.param("envoy", marks=pytest.mark.envoy)])
def netns_bookinfo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bookinfo]:
    code = "from mesh.platforms.netns.availability import why_not; print(why_not())"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    if reason := asked.stdout.strip():
        pytest.skip(f"no network namespaces: {reason}")
    with running(tmp_path_factory.mktemp("netns"), request.param, "netns") as mesh:
        with mesh.client() as client:
            assert client.mesh is not None
            if client.mesh.lacking:
                pytest.skip("; ".join(f"no {name}: {why}" for name, why in client.mesh.lacking.items()))
        yield mesh


def faults_on_pods(mesh: Bookinfo) -> list[str]:
    """The conditions by which pods tell of them."""
    with mesh.client() as client:
        conditions = [each["type"] for pod in client.pods() for each in pod.manifest["status"]["conditions"]]
    return [kind for kind in conditions if kind.startswith(POD_FAULT_CONDITION)]


def test_it_passes_tells_its_faults_and_undoes_them(netns_bookinfo: Bookinfo, out: Path) -> None:
    run = netns_bookinfo.drill(NAME, out=out)
    assert run.code == 0, run.output
    assert set(run.outcomes.values()) == {"held"}
    assert netns_bookinfo.faults() == faults_on_pods(netns_bookinfo) == []
    assert run.folder is not None
    told = {phase["name"]: phase["faults"] for phase in run.journal[0]["run"]}
    parted = ["partition on app=ratings, both ways with app=reviews"]
    assert told["parted"] == parted
    assert told["whole again"] == []
    assert f"under {parted[0]}" in run.output
    assert parted[0] in (run.folder / "report.html").read_text()


def test_without_its_faults_it_fails(netns_bookinfo: Bookinfo, out: Path) -> None:
    drill = built_in(NAME)
    for phase in drill["spec"]["phases"]:
        phase.pop("faults", None)
        for check in phase["checks"]:
            if "metricIncrease" in check:
                check["metricIncrease"]["within"] = "1s"
    run = netns_bookinfo.changed(drill, out)
    assert run.code == 1
    assert {name for name, outcome in run.outcomes.items() if outcome != "held"} == {
        "the page has its stars, and is late",
        "the page is served, without stars",
        "connections could not be made",
        "then ratings were out of the pool, and calls refused at once",
    }


def test_after_sigkill_its_faults_end_with_their_lease(netns_bookinfo: Bookinfo, out: Path) -> None:
    process = netns_bookinfo.start(NAME, out=out)
    until(lambda: faults_on_pods(netns_bookinfo), "its first fault is in force")
    assert end(process, signal.SIGKILL) == -signal.SIGKILL
    assert process.stdout is not None
    process.stdout.close()
    until(lambda: not faults_on_pods(netns_bookinfo), "they are lifted")
    assert netns_bookinfo.faults() == []


def test_where_pods_have_no_network_of_their_own_it_is_skipped_with_the_reason(bookinfo: Bookinfo, out: Path) -> None:
    with bookinfo.client() as client:
        assert client.mesh is not None
        if client.mesh.platform != "process":
            pytest.skip(f"on {client.mesh.platform} pods have a network of their own")
    run = bookinfo.drill(NAME, out=out)
    assert run.code == 1  # nothing was judged
    [verdict] = run.journal[0]["run"][0]["checks"]
    assert verdict["outcome"] == "skipped"
    assert verdict["detail"].startswith("it needs the capability delay: on the `process` platform")
    assert "it needs the capability partition" in verdict["detail"]
