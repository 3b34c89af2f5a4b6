"""The verbs on a running Bookinfo, as a user types them; on both engines where the engine matters."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from cryptography.x509 import DNSName
from xdskit.pki import Authority

APPS = Path(__file__).parents[3] / "apps"
CALLER = Path(__file__).parents[2] / "xdskit" / "grpc_caller.py"
FIFTY_FIFTY = str(APPS / "istio" / "virtual-service-reviews-50-50.yaml")

TLS_EDGE = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8443, name: https, protocol: HTTPS}
    hosts: [shop.example.com]
    tls: {mode: SIMPLE, credentialName: shop}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: istio-system}
spec:
  hosts: [shop.example.com]
  gateways: [shop]
  http: [{route: [{destination: {host: productpage.default.svc.cluster.local, port: {number: 9080}}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-api, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  action: DENY
  rules: [{to: [{operation: {ports: ["8443"], paths: [/api/*]}}]}]
"""


@dataclass
class Mesh:
    state: Path
    port: int
    engine: str

    def __call__(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), input=stdin, capture_output=True, text=True, timeout=90, check=False
        )

    def ok(self, *arguments: str, stdin: str | None = None) -> str:
        answer = self(*arguments, stdin=stdin)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "mesh.cli.main", *arguments, "--state", str(self.state)]


@pytest.fixture(scope="module", params=["python", pytest.param("envoy", marks=pytest.mark.envoy)])
def bookinfo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    mesh = Mesh(tmp_path_factory.mktemp("bookinfo") / "state", port, request.param)
    try:
        said = mesh.ok("up", "-d", "--port", str(port), "--proxy", mesh.engine)
        assert said.splitlines()[-1] == f"http://127.0.0.1:{port}/productpage"
        yield mesh
    finally:
        mesh("down")


pytestmark = pytest.mark.bookinfo


def test_status_is_good_and_names_the_engine(bookinfo: Mesh) -> None:
    facts = json.loads(bookinfo.ok("status", "-o", "json"))
    assert facts["mesh"]["engine"] == bookinfo.engine
    assert len(facts["pods"]) == 7
    assert {(pod["ready"], pod["proxy"]) for pod in facts["pods"]} == {(True, "synced")}
    assert f"sidecars: {bookinfo.engine}" in bookinfo.ok("status")


def test_get_shows_tables_and_documents(bookinfo: Mesh) -> None:
    lines = bookinfo.ok("get", "pods", "-n", "default").splitlines()
    assert lines[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "IP", "AGE"]
    assert len(lines) == 7
    assert all("2/2" in line and "Running" in line for line in lines[1:])
    rule = yaml.safe_load(bookinfo.ok("get", "dr", "reviews", "-o", "yaml"))
    assert [subset["name"] for subset in rule["spec"]["subsets"]] == ["v1", "v2", "v3"]
    chosen = json.loads(bookinfo.ok("get", "deploy", "-l", "app=reviews,version=v2", "-o", "json"))
    assert [item["metadata"]["name"] for item in chosen["items"]] == ["reviews-v2"]


def test_a_split_is_live_in_every_sidecar_when_apply_returns(bookinfo: Mesh) -> None:
    said = bookinfo.ok("apply", "-f", FIFTY_FIFTY, "--wait")
    assert said == "virtualservice/reviews created\nevery sidecar has taken it\n"
    routes = bookinfo.ok("proxy-config", "routes", "deploy/productpage-v1")
    assert re.search(r"outbound\|9080\|v1\|reviews\S* 50, outbound\|9080\|v3\|reviews\S* 50", routes)
    assert bookinfo.ok("apply", "-f", "-", "--dry-run", stdin=Path(FIFTY_FIFTY).read_text()) == (
        "virtualservice/reviews unchanged (dry run)\n"
    )
    assert bookinfo.ok("delete", "-f", FIFTY_FIFTY) == "virtualservice/reviews deleted\n"
    again = bookinfo("delete", "vs", "reviews")
    assert (again.returncode, again.stderr) == (1, "Error: VirtualService default/reviews not found\n")
    assert bookinfo.ok("delete", "vs", "reviews", "--ignore-not-found") == ""


def test_a_dry_run_changes_nothing(bookinfo: Mesh) -> None:
    assert bookinfo.ok("apply", "-f", FIFTY_FIFTY, "--dry-run") == "virtualservice/reviews created (dry run)\n"
    assert bookinfo("get", "vs", "reviews").returncode == 1


def test_apply_is_all_or_nothing_and_names_the_line(bookinfo: Mesh) -> None:
    text = (
        Path(FIFTY_FIFTY).read_text() + "---\napiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {prots: []}\n"
    )
    answer = bookinfo("apply", "-f", "-", stdin=text)
    assert answer.returncode == 1
    assert re.fullmatch(r'Error: <stdin>:\d+: Service default/x: spec\.prots: unknown field "prots".*\n', answer.stderr)
    assert bookinfo("get", "vs", "reviews").returncode == 1


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("listeners", "http_proxy"),
        ("routes", "reviews.default.svc.cluster.local:9080"),
        ("clusters", "reviews.default.svc.cluster.local"),
        ("endpoints", "outbound|9080|v3|reviews.default.svc.cluster.local"),
        ("secrets", "spiffe://cluster.local/ns/default/sa/bookinfo-productpage"),
    ],
)
def test_a_sidecar_tells_what_it_runs_with(bookinfo: Mesh, what: str, expected: str) -> None:
    assert expected in bookinfo.ok("proxy-config", what, "productpage")
    assert expected in json.dumps(json.loads(bookinfo.ok("proxy-config", what, "productpage", "-o", "json")))


def test_a_grpc_client_can_be_a_pod(bookinfo: Mesh) -> None:
    file = Path(bookinfo.ok("grpc-bootstrap", "deploy/productpage-v1", "--path").strip())
    document = json.loads(bookinfo.ok("grpc-bootstrap", "deploy/productpage-v1"))
    assert document == json.loads(file.read_text())
    files = document["xds_servers"][0]["channel_creds"][0]["config"]
    secrets = [Path(value) for name, value in files.items() if name.endswith("_file")]
    assert [own.stat().st_mode & 0o777 for own in (file, *secrets)] == [0o600] * 4
    caller = subprocess.run(
        [sys.executable, str(CALLER)],
        env={"GRPC_XDS_BOOTSTRAP": str(file)},
        input=json.dumps({"target": "reviews.default.svc.cluster.local:9080"}) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    status, text, _ = json.loads(caller.stdout)
    assert (status, "404" in text) == ("UNIMPLEMENTED", True), "its sidecar took the call to an app that knows no gRPC"


def test_proxy_status_shows_every_sidecar_in_step(bookinfo: Mesh) -> None:
    lines = bookinfo.ok("proxy-status").splitlines()
    assert len(lines) == 8
    assert all(line.split()[1:] == ["SYNCED"] * 4 for line in lines[1:])
    assert len(json.loads(bookinfo.ok("proxy-status", "-o", "json"))) == 7


def test_logs_show_app_and_sidecar_and_can_be_followed(bookinfo: Mesh, tmp_path: Path) -> None:
    assert "listens on" in bookinfo.ok("logs", "deploy/reviews-v1")
    shown = tmp_path / "shown"
    with shown.open("wb") as output:
        command = bookinfo.command("logs", "productpage", "-c", "istio-proxy", "-f", "--tail", "0")
        follower = subprocess.Popen(command, stdout=output)
    try:
        assert _shows_a_call(shown, bookinfo.port)
    finally:
        follower.terminate()
        follower.wait()
    ambiguous = bookinfo("logs", "reviews")
    assert ambiguous.returncode == 1
    assert "may be any of reviews-v1-" in ambiguous.stderr
    missing = bookinfo("logs", "productpage", "-c", "sidecar")
    assert "it has productpage, istio-proxy" in missing.stderr


def _shows_a_call(shown: Path, port: int) -> bool:
    """Calls the page until the follower has shown a call, at most half a minute."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/productpage", timeout=10) as page:
            assert page.status == 200
        if '"GET /productpage' in shown.read_text():
            return True
        time.sleep(0.2)
    return False


def test_tls_at_the_gateway_and_a_policy_of_its_own(bookinfo: Mesh, tmp_path: Path) -> None:
    """A Secret's key serves, nobody is shown it but who asks for the Secret itself, and a policy closes one path."""
    authority = Authority()
    key, chain = authority.issue(DNSName("shop.example.com"))
    pem = {"tls.crt": chain.decode(), "tls.key": key.decode()}
    manifests = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop", "namespace": "istio-system"},
         "type": "kubernetes.io/tls", "stringData": pem},
        *yaml.safe_load_all(TLS_EDGE),
    ]  # fmt: skip
    (tmp_path / "edge.yaml").write_text(yaml.safe_dump_all(manifests))
    (tmp_path / "root.pem").write_bytes(authority.root)
    try:
        bookinfo.ok("apply", "-f", str(tmp_path / "edge.yaml"))
        pods = json.loads(bookinfo.ok("get", "pods", "-n", "istio-system", "-o", "json"))["items"]
        address = pods[0]["status"]["podIP"]

        def status(path: str) -> str:
            url = f"https://shop.example.com:8443{path}"
            command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", str(tmp_path / "root.pem"),
                       "--max-time", "30", "--resolve", f"shop.example.com:8443:{address}", url]  # fmt: skip
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout

        deadline = time.monotonic() + 60
        while status("/productpage") != "200":
            assert time.monotonic() < deadline, bookinfo.ok("proxy-status")
            time.sleep(0.2)
        assert status("/api/v1/products") == "403"
        assert re.search(r"shop +kubernetes.io/tls +2", bookinfo.ok("get", "secrets", "-n", "istio-system"))
        assert re.search(r"no-api +DENY", bookinfo.ok("get", "authorizationpolicies", "-n", "istio-system"))
        secret_line = key.decode().splitlines()[1]
        dump = bookinfo.ok("proxy-config", "secrets", pods[0]["metadata"]["name"], "-o", "json")
        assert "shop.example.com" in dump
        assert secret_line not in dump
        kept = [own for own in bookinfo.state.rglob("*") if own.is_file() and secret_line.encode() in own.read_bytes()]
        assert {own.stat().st_mode & 0o077 for own in kept} == {0}
        assert {own.name.split("-")[0] for own in kept} <= {"store.db"}, kept
    finally:
        bookinfo("delete", "-f", str(tmp_path / "edge.yaml"))
    assert "shop" not in bookinfo.ok("get", "secrets", "-n", "istio-system")
