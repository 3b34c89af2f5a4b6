"""An app in another language, with plain sockets too, joins the mesh unchanged: all that it does passes its sidecar."""

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from meshdrill_command import Meshdrill, until, way_in, why_no_netns, workload

APP = Path(__file__).parent / "node_app.js"
UNDECLARED = 9100
BY_USER = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "back"},
    "spec": {
        "hosts": ["back"],
        "http": [
            {
                "match": [{"headers": {"end-user": {"exact": "jason"}}}],
                "route": [{"destination": {"host": "blue"}}],
            },
            {"route": [{"destination": {"host": "back"}}]},
        ],
    },
}


def node(name: str) -> list[dict[str, Any]]:
    """A workload of the app: HTTP on 8000, TCP on 9000, and a port that no manifest tells of."""
    manifests = workload(name)
    service, deployment = manifests[1:]
    service["spec"]["ports"].append({"name": "tcp", "port": 9000})
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["command"] = ["node", str(APP), "8000", "9000", str(UNDECLARED)]
    container["ports"].append({"name": "tcp", "containerPort": 9000})
    return manifests


@pytest.fixture(scope="module", params=["python", pytest.param("envoy", marks=pytest.mark.envoy)])
def mesh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshdrill]:
    if reason := why_no_netns():
        pytest.skip(f"no network namespaces: {reason}")
    if shutil.which("node") is None:
        pytest.skip("there is no command `node` (Debian's package nodejs)")
    command = Meshdrill(tmp_path_factory.mktemp("node") / "state")
    apps = [*node("web"), *node("peer"), *workload("back", COLOR="red"), *workload("blue", COLOR="blue")]
    file = command.write("node.yaml", [*apps, *way_in("web"), BY_USER])
    with command.up_in_front("-f", file, "--proxy", request.param, "--platform", "netns"):
        yield command
    assert not command.processes()


def asked(mesh: Meshdrill, verb: str, headers: dict[str, str] | None = None, **query: object) -> tuple[int, Any]:
    """What the app `web` was answered."""
    url = f"http://127.0.0.1:{mesh.port}/{verb}?{urlencode(query)}"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=20) as response:
        answer = json.load(response)
    return answer["status"], json.loads(answer["body"])


def address_of(mesh: Meshdrill, workload_name: str) -> str:
    with mesh.client() as client:
        return next(pod.ip for pod in client.pods() if pod.workload == workload_name)


def test_what_it_asks_for_by_http_is_routed(mesh: Meshdrill) -> None:
    status, answer = asked(mesh, "call", url="http://back:8000/")
    assert (status, answer["color"]) == (200, "red")
    status, answer = asked(mesh, "call", {"end-user": "jason"}, url="http://back:8000/")
    assert (status, answer["color"]) == (200, "blue")


def test_its_plain_sockets_reach_a_service_by_name(mesh: Meshdrill) -> None:
    status, answer = asked(mesh, "socket", host="peer", port=9000)
    assert status == 200
    assert answer["heard"] == "hello, peer"
    assert answer["here"] == f"{address_of(mesh, 'peer')}:9000"
    assert answer["peer"].endswith("127.0.0.6")  # its sidecar


@pytest.mark.parametrize("port", [9000, UNDECLARED])
def test_its_plain_sockets_reach_the_address_that_they_meant(mesh: Meshdrill, port: int) -> None:
    address = address_of(mesh, "peer")
    assert asked(mesh, "socket", host=address, port=port) == (
        200, {"heard": "hello, peer", "here": f"{address}:{port}", "peer": "127.0.0.6"}
    )  # fmt: skip


def test_both_go_over_mutual_tls_by_its_identity(mesh: Meshdrill) -> None:
    asked(mesh, "call", url="http://back:8000/")
    asked(mesh, "socket", host="peer", port=9000)
    seen = {"reporter": "destination", "connection_security_policy": "mutual_tls"}
    identity = "spiffe://cluster.local/ns/default/sa/web"
    with mesh.client() as client:
        pods = {pod.workload: pod for pod in client.pods()}

        def counted(name: str, metric: str) -> float:
            return client.metrics(pods[name]).value(metric, source_principal=identity, **seen)

        until(lambda: counted("back", "istio_requests_total"), "its requests are counted at back")
        until(lambda: counted("peer", "istio_tcp_connections_opened_total"), "its sockets are counted at peer")
