"""Istio's task of TCP traffic shifting: connections to tcp-echo, all to one version, then a fifth to the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from meshdrill_command import Meshdrill, pids_of, until, why_no_netns

APPS = Path(__file__).parents[3] / "apps"
ALL_V1, A_FIFTH_V2 = (str(APPS / "istio" / f"tcp-echo-{name}.yaml") for name in ("all-v1", "20-v2"))
# Of 300 connections, each to v2 with probability 0.2, so many are outside of these bounds in fewer than 1e-9 of runs.
CONNECTIONS, AT_LEAST, AT_MOST = 300, 18, 108
CALLS = """
import json, socket, sys
address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
answers = []
for number in range(count):
    with socket.create_connection((address, port), timeout=20) as sock, sock.makefile("rwb") as stream:
        for line in (b"hello\\n", b"again\\n"):
            stream.write(line)
            stream.flush()
            answers.append(stream.readline().decode())
print(json.dumps(answers))
"""


Call = Callable[[int], list[str]]


def manifests() -> list[dict[str, Any]]:
    """Both versions, and one more pod, from which connections are made."""
    echo: list[dict[str, Any]] = list(yaml.safe_load_all((APPS / "tcp-echo.yaml").read_text()))
    client = yaml.safe_load(yaml.safe_dump(echo[-1]).replace("app: tcp-echo", "app: client"))
    client["metadata"]["name"] = "client"
    container = client["spec"]["template"]["spec"]["containers"][0]
    container["ports"] = []
    container["readinessProbe"]["tcpSocket"]["port"] = 9100
    container["env"].append({"name": "PORT", "value": "9100"})
    return [*echo, client]


EACH = [
    pytest.param(("netns", "python"), id="netns-python"),
    pytest.param(("netns", "envoy"), id="netns-envoy", marks=pytest.mark.envoy),
    pytest.param(("process", "python"), id="process-python"),
]


@pytest.fixture(scope="module", params=EACH)
def echo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Meshdrill, Call]]:
    platform, engine = request.param
    if platform == "netns" and (reason := why_no_netns()):
        pytest.skip(f"no network namespaces: {reason}")
    command = Meshdrill(tmp_path_factory.mktemp("echo") / "state")
    file = command.write("echo.yaml", manifests())
    with command.up_in_front("-f", file, "--proxy", engine, "--platform", platform), command.client() as client:
        (pod,) = (each for each in client.pods() if each.workload == "client")
        (service,) = (own for own in client.list("Service").items if own["metadata"]["name"] == "tcp-echo")
        (pid,) = pids_of(command.state, f"{pod.name}.tcp-echo")
        spaces = ["nsenter", f"--net=/proc/{pid}/ns/net"]
        if os.geteuid() != 0:  # root is at home in the lab's user namespace, which is the host's
            spaces += [f"--user=/proc/{pid}/ns/user", "--preserve-credentials"]
        # On loopback the sidecar listens at the pod's address; in a namespace it takes what goes to the service's.
        way = [*spaces, sys.executable] if platform == "netns" else [sys.executable]
        address = service["spec"]["clusterIP"] if platform == "netns" else pod.ip

        def call(count: int) -> list[str]:
            words = [*way, "-c", CALLS, address, "9000", str(count)]
            done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
            assert done.returncode == 0, done.stderr
            answers: list[str] = json.loads(done.stdout)
            return answers

        yield command, call
    assert not command.processes()


def versions(answers: list[str]) -> Counter[str]:
    """How many connections each version had. Of one connection, both lines are answered by the same."""
    words = [answer.split(" ", 1) for answer in answers]
    assert {line for _, line in words} == {"hello\n", "again\n"}
    firsts, seconds = [word for word, _ in words[::2]], [word for word, _ in words[1::2]]
    assert firsts == seconds
    return Counter(firsts)


def apply(mesh: Meshdrill, file: str) -> None:
    done = mesh.run("apply", "-f", file, "--wait")
    assert done.returncode == 0, done.stderr


def test_connections_are_shifted_by_weight(echo: tuple[Meshdrill, Call]) -> None:
    mesh, call = echo
    apply(mesh, ALL_V1)
    assert versions(call(40)) == {"one": 40}
    apply(mesh, A_FIFTH_V2)
    found = versions(call(CONNECTIONS))
    assert found.keys() == {"one", "two"}
    assert AT_LEAST <= found["two"] <= AT_MOST
    with mesh.client() as client:
        (pod,) = (each for each in client.pods() if each.workload == "client")

        def counted(version: str) -> float:
            labels = {"reporter": "source", "destination_workload": f"tcp-echo-{version}"}
            return client.metrics(pod).value("istio_tcp_connections_closed_total", **labels)

        assert until(lambda: counted("v2") == found["two"], "each connection is counted where it went")
        assert until(lambda: counted("v1") == found["one"] + 40, "each connection is counted where it went")
