"""Ratings v2 and MariaDB as pods of a mesh: MySQL inside mutual TLS, counted, guarded, lost and found again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from meshdrill_command import WAIT_S, Meshdrill, free_port, pids_of, until, way_in, why_no_netns

from mesh.client import MeshClient, Pod
from mesh.client.types import MeshFile

APPS = Path(__file__).parents[3] / "apps"
STARS = {"Reviewer1": 5, "Reviewer2": 4}
V2 = "cluster.local/ns/default/sa/bookinfo-ratings-v2"


def manifests(platform: str, outer_port: int) -> list[dict[str, Any]]:
    """Ratings v2 at `/`, at `/reader/` another, which has the identity of v1, and at `/outer/` one that reads another
    database: a server of the host."""
    database: list[dict[str, Any]] = list(yaml.safe_load_all((APPS / "bookinfo-ratings-v2-mysql.yaml").read_text()))
    (ratings,) = (item for item in database if item["metadata"]["name"] == "ratings-v2")
    reader = yaml.safe_load(yaml.safe_dump(ratings).replace("app: ratings", "app: reader"))
    reader["metadata"]["name"] = "reader"
    reader["spec"]["template"]["spec"]["serviceAccountName"] = "bookinfo-ratings"
    outer = yaml.safe_load(yaml.safe_dump(ratings).replace("app: ratings", "app: outer"))
    outer["metadata"]["name"] = "outer"
    # Where there is no DNS, a TCP service is found at the sidecar's own address.
    set_variable(outer, "MYSQL_DB_HOST", "outerdb" if platform == "netns" else "$(HOST)")
    set_variable(outer, "MYSQL_DB_PORT", str(outer_port))
    for deployment in (ratings, reader, outer):
        # The test's own machine may be slow; that is not what it is about.
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        container["env"].append({"name": "MYSQL_DB_TIMEOUT_SECONDS", "value": "3"})
    services = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 9080}]},
        }
        for name in ("ratings", "reader", "outer")
    ]
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bookinfo-ratings"}}
    gateway, routes = way_in("ratings")
    routes["spec"]["http"] = [
        *(
            {
                "match": [{"uri": {"prefix": f"/{name}/"}}],
                "rewrite": {"uri": "/ratings/"},
                "route": [{"destination": {"host": name}}],
            }
            for name in ("reader", "outer")
        ),
        {"route": [{"destination": {"host": "ratings"}}]},
    ]
    return [*database, reader, outer, *services, account, gateway, routes]


def set_variable(deployment: dict[str, Any], name: str, value: str) -> None:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    next(item for item in container["env"] if item["name"] == name)["value"] = value


EACH = [
    pytest.param(("netns", "python"), id="netns-python"),
    pytest.param(("netns", "envoy"), id="netns-envoy", marks=pytest.mark.envoy),
    pytest.param(("process", "python"), id="process-python"),
]


@pytest.fixture(scope="module")
def outer_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a database on this host's loopback, of which no mesh knows."""
    pytest.importorskip("pymysql", reason="no MySQL driver: pip install meshdrill[mysql]")
    if shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("no MariaDB on this machine (Debian: mariadb-server)")
    folder = tmp_path_factory.mktemp("outer")
    port, log = free_port(), folder / "log"
    own = {"HOST": "127.0.0.1", "PORT": str(port), "MYSQL_ROOT_PASSWORD": "password", "DATA_FOLDER": str(folder)}
    with log.open("wb") as output:
        command = [sys.executable, "-m", "apps.mysqldb"]
        server = subprocess.Popen(command, env=os.environ | own, stdout=output, stderr=output)
    try:
        until(lambda: "ready for connections" in log.read_text() or server.poll() is not None, "the server answers")
        assert server.poll() is None, log.read_text()
        yield port
    finally:
        server.terminate()
        server.wait(WAIT_S)


@pytest.fixture(scope="module", params=EACH)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, outer_port: int
) -> Iterator[Meshdrill]:
    platform, engine = request.param
    if platform == "netns" and (reason := why_no_netns()):
        pytest.skip(f"no network namespaces: {reason}")
    command = Meshdrill(tmp_path_factory.mktemp("database") / "state")
    file = command.write("database.yaml", manifests(platform, outer_port))
    way_out = ["--host-port", str(outer_port)] if platform == "netns" else []
    with command.up_in_front("-f", file, "--proxy", engine, "--platform", platform, *way_out):
        yield command
    assert not command.processes()


def stars(mesh: Meshdrill, path: str = "/ratings/0") -> bool:
    status, answer = mesh.get(path)
    return status == 200 and answer["ratings"] == STARS


def pod_of(client: MeshClient, workload: str) -> Pod:
    (pod,) = (pod for pod in client.pods() if pod.workload == workload and pod.ready)
    return pod


def test_stars_come_from_the_database_under_strict_mutual_tls_too(running: Meshdrill) -> None:
    assert until(lambda: stars(running), "stars come from the database")
    strict = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default"},
        "spec": {"mtls": {"mode": "STRICT"}},
    }
    with running.applied(strict):
        assert until(lambda: stars(running), "stars come through STRICT")


def test_its_connections_and_their_bytes_are_counted_at_both_ends(running: Meshdrill) -> None:
    assert until(lambda: stars(running), "stars come from the database")
    ends = {
        "source": ("ratings-v2", {"destination_workload": "mysqldb-v1"}),
        "destination": (
            "mysqldb-v1",
            {"source_principal": f"spiffe://{V2}", "connection_security_policy": "mutual_tls"},
        ),
    }
    with running.client() as client:
        for reporter, (workload, labels) in ends.items():
            labels = {"reporter": reporter, "request_protocol": "tcp", "destination_service_name": "mysqldb", **labels}
            pod = pod_of(client, workload)

            def value(name: str) -> float:
                return client.metrics(pod).value(f"istio_tcp_{name}_total", **labels)  # noqa: B023 - used here only

            assert until(lambda: value("connections_closed"), f"closed connections are counted at the {reporter}")
            assert value("connections_opened") >= 1
            assert value("received_bytes") > 100, "login and queries of a client"
            assert value("sent_bytes") > 100, "greeting and rows of the server"
            assert client.metrics(pod).value("istio_requests_total", destination_service_name="mysqldb") == 0


def test_a_policy_lets_only_the_named_identity_at_the_database(running: Meshdrill) -> None:
    only_v2 = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "mysqldb"},
        "spec": {
            "selector": {"matchLabels": {"app": "mysqldb"}},
            "action": "ALLOW",
            "rules": [{"from": [{"source": {"principals": [V2]}}], "to": [{"operation": {"ports": ["3306"]}}]}],
        },
    }
    assert until(lambda: stars(running, "/reader/0"), "who has v1's identity reads too")
    with running.applied(only_v2):
        assert until(lambda: stars(running), "v2 reads on")
        assert until(lambda: running.get("/reader/0")[0] == 500, "v1's identity is refused")
        assert until(lambda: stars(running), "v2 reads on")
    assert until(lambda: stars(running, "/reader/0"), "without the policy it reads again")


def test_a_server_of_the_host_is_a_service_while_it_is_registered(running: Meshdrill, outer_port: int) -> None:
    address = "10.244.0.2" if MeshFile.read(running.state).platform == "netns" else "127.0.0.1"
    with running.client() as client:
        assert running.get("/outer/0")[0] == 500
        done = running.run("register", "outerdb", address, f"mysql:{outer_port}")
        assert done.returncode == 0, done.stderr
        assert until(lambda: stars(running, "/outer/0"), "stars come from outside")

        def connections() -> float:
            labels = {"destination_service": "outerdb.default.svc.cluster.local", "reporter": "source"}
            return client.metrics(pod_of(client, "outer")).value("istio_tcp_connections_closed_total", **labels)

        assert until(connections, "the sidecar counts what goes out")
        done = running.run("deregister", "outerdb", address)
        assert done.returncode == 0, done.stderr
        assert until(lambda: running.get("/outer/0")[0] == 500, "it is known no more")


def test_without_its_database_ratings_say_so_until_it_is_back(running: Meshdrill) -> None:
    assert until(lambda: stars(running), "stars come from the database")
    with running.client() as client:
        pod = pod_of(client, "mysqldb-v1")
        (before,) = (own["restartCount"] for own in statuses(pod) if own["name"] == "mysqldb")
        (launcher,) = pids_of(running.state, f"{pod.name}.mysqldb")
        server = mariadbd_below(launcher)
        os.kill(server, signal.SIGSTOP)
        try:
            assert until(lambda: running.get("/ratings/0")[0] == 500, "a silent database is told of")
        finally:
            os.kill(server, signal.SIGCONT)
        assert until(lambda: stars(running), "it is back when the server goes on")
        os.kill(server, signal.SIGKILL)

        def restarted() -> bool:
            return any(own["name"] == "mysqldb" and own["restartCount"] > before for own in statuses(again()))

        def again() -> Pod:
            return next(each for each in client.pods() if each.name == pod.name)

        assert until(restarted, "the database's container was started again")
        assert until(lambda: stars(running), "and its rows are there")


def statuses(pod: Pod) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pod.manifest["status"]["containerStatuses"]
    return found


def mariadbd_below(pid: int) -> int:
    """The server among a process's descendants."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if Path(f"/proc/{child}/comm").read_text().strip() == "mariadbd":
            return int(child)
        with contextlib.suppress(LookupError):
            return mariadbd_below(int(child))
    raise LookupError(f"no mariadbd below {pid}")
