"""Bookinfo in containers: every family of drills holds, with our sidecar and with Envoy."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from chaos import drill
from chaos.verdict import Outcome
from chaos.waiting import wait_until
from mesh.cli.errors import Failure
from mesh.client import POD_FAULT_CONDITION
from mesh.config.problems import InvalidError
from mesh.testing import MeshContainer
from tests.docker_engine import BASE

pytestmark = [pytest.mark.bookinfo, pytest.mark.timeout(1200)]  # the first of these builds images

ASK = """
import urllib.request
with urllib.request.urlopen("http://legacy:8000/", timeout=10) as response:
    print(response.status, response.headers["server"])
"""
MISSPELT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hots: [reviews]
"""
WITHIN_S = 60.0


def page(mesh: MeshContainer, path: str = "/productpage") -> str:
    with urllib.request.urlopen(f"{mesh.get_url()}{path}", timeout=30) as response:
        return str(response.read().decode())


def test_the_page_is_made_of_what_all_pods_serve(bookinfo: MeshContainer) -> None:
    assert bookinfo.status == "running"
    shown = page(bookinfo)
    assert "The Comedy of Errors" in shown
    assert 'class="sorry"' not in shown
    assert {pod.workload for pod in bookinfo.client.pods() if pod.ready} >= {
        *("productpage-v1", "details-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3"),
        "istio-ingressgateway",
    }


@pytest.mark.parametrize(
    "family", ["canary-split", "fault-injection", "mutual-tls", "circuit-breaking", "network-partition"]
)
def test_a_family_of_drills_holds(bookinfo: MeshContainer, family: str) -> None:
    if family == "network-partition":
        skip_where_it_lacks(bookinfo)
    run = bookinfo.run_drill(family)
    assert run.passed, run.output
    assert {each.outcome for each in run.checks} == {Outcome.HELD}
    assert (run.folder / "report.html").stat().st_size > 0
    assert not bookinfo.client.list("Fault").items
    assert not faults_on_pods(bookinfo)


def skip_where_it_lacks(mesh: MeshContainer) -> None:
    assert mesh.client.mesh is not None
    if lacking := mesh.client.mesh.lacking:
        pytest.skip("; ".join(f"no {name}: {why}" for name, why in lacking.items()))


def faults_on_pods(mesh: MeshContainer) -> list[str]:
    """The conditions by which pods tell of them."""
    conditions = [each["type"] for pod in mesh.client.pods() for each in pod.manifest["status"]["conditions"]]
    return [kind for kind in conditions if kind.startswith(POD_FAULT_CONDITION)]


@pytest.mark.parametrize("bookinfo", ["python"], indirect=True)
def test_after_sigkill_of_a_drill_its_faults_end_with_their_lease(bookinfo: MeshContainer, tmp_path: Path) -> None:
    skip_where_it_lacks(bookinfo)
    words = ["drill", "run", "network-partition", "--state", str(bookinfo.state), "--out", str(tmp_path / "results")]
    with subprocess.Popen([sys.executable, "-m", "mesh.cli.main", *words], stdout=subprocess.DEVNULL) as process:
        try:
            assert wait_until(lambda: faults_on_pods(bookinfo), WITHIN_S), "its first fault is in force"
        finally:
            process.kill()
    assert wait_until(lambda: not faults_on_pods(bookinfo), WITHIN_S), "they are lifted"
    assert not bookinfo.client.list("Fault").items


@pytest.mark.parametrize("bookinfo", ["python"], indirect=True)
def test_a_drill_of_what_is_not_so_fails(bookinfo: MeshContainer, tmp_path: Path) -> None:
    """No route was laid, so requests go to all versions."""
    manifest = yaml.safe_load((drill.BUILT_IN / "canary-split.yaml").read_text())
    phase = manifest["spec"]["phases"][0]
    manifest["spec"] |= {"phases": [{"name": phase["name"], "checks": phase["checks"][:1]}]}
    del manifest["spec"]["load"]
    (tmp_path / "unlaid.yaml").write_text(yaml.safe_dump(manifest))
    run = bookinfo.run_drill(tmp_path / "unlaid.yaml", out=tmp_path / "results", seed="1")
    assert not run.passed
    assert run.checks[0].outcome is Outcome.VIOLATED, run.output
    assert run.folder.parent == tmp_path / "results"


def test_what_is_applied_is_in_force_and_its_pods_are_ready(bookinfo: MeshContainer) -> None:
    ratings = bookinfo.client.get("Deployment", "ratings-v1")
    labels = {"app": "ratings", "version": "v9"}
    ratings["metadata"] = {"name": "ratings-v9"}
    ratings["spec"]["selector"]["matchLabels"] = labels
    ratings["spec"]["template"]["metadata"]["labels"] = labels
    only_v9 = """
        apiVersion: networking.istio.io/v1
        kind: DestinationRule
        metadata: {name: ratings-v9}
        spec: {host: ratings, subsets: [{name: v9, labels: {version: v9}}]}
        ---
        apiVersion: networking.istio.io/v1
        kind: VirtualService
        metadata: {name: ratings}
        spec:
          hosts: [ratings]
          http: [{route: [{destination: {host: ratings, subset: v9}}]}]
        """.replace("\n        ", "\n")
    bookinfo.apply(ratings, only_v9)
    try:
        assert bookinfo.pod("deploy/ratings-v9").ready
        assert bookinfo.exec("deploy/ratings-v9", ["sh", "-c", "echo $0 $(id -u)", "a word"]).output == b"a word 1000\n"
        before = bookinfo.logs("deploy/ratings-v9", "istio-proxy").count("GET /ratings/0")
        page(bookinfo, "/api/v1/products/0/ratings")
        log = lambda: bookinfo.logs("deploy/ratings-v9", "istio-proxy").count("GET /ratings/0")  # noqa: E731
        assert wait_until(lambda: log() > before, WITHIN_S), "the sidecar of v9 logs the call"
    finally:
        bookinfo.delete(ratings, only_v9)
    with pytest.raises(Failure, match='no pod belongs to a deployment "ratings-v9"'):
        bookinfo.pod("deploy/ratings-v9")


def test_what_is_not_valid_is_refused_with_its_line(bookinfo: MeshContainer) -> None:
    with pytest.raises(InvalidError, match=r"yaml:6.*hots"):
        bookinfo.apply(MISSPELT)


@contextmanager
def outside(mesh: MeshContainer) -> Iterator[DockerContainer]:
    """A server that knows nothing of the mesh, in a container that testcontainers runs."""
    container = DockerContainer(BASE, command="python3 -u -m http.server 8000")
    container.with_network(mesh.network).with_kwargs(labels=mesh.network.labels)
    with container.waiting_for(LogMessageWaitStrategy("Serving HTTP")) as started:
        yield started


def test_a_container_outside_of_the_mesh_is_a_service_while_it_is_registered(bookinfo: MeshContainer) -> None:
    def asked() -> Any:
        return bookinfo.exec("deploy/ratings-v1", ["python", "-c", ASK])

    def counted() -> float:
        caller = bookinfo.pod("deploy/ratings-v1")
        labels = {"reporter": "source", "destination_service": "legacy.default.svc.cluster.local"}
        return bookinfo.client.metrics(caller).value("istio_requests_total", response_code="200", **labels)

    with outside(bookinfo) as legacy:
        assert b"Name or service not known" in asked().output
        bookinfo.register("legacy", legacy, "http:8000")
        assert asked() == (0, b"200 istio-envoy\n")
        assert b'"GET / HTTP/1.1" 200' in b"".join(legacy.get_logs())
        assert wait_until(counted, WITHIN_S), "the sidecar counts the call"
        bookinfo.deregister("legacy", legacy)
        assert wait_until(lambda: asked().exit_code != 0, WITHIN_S), "it is known no more"
