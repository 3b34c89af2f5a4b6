"""When a mesh cannot come up, the message names what is wrong, and nothing is left running."""

import socket
from typing import Any

import pytest
from meshdrill_command import Meshdrill, workload


def app(name: str, **container: Any) -> list[dict[str, Any]]:
    manifests = workload(name)
    manifests[-1]["spec"]["template"]["spec"]["containers"][0] |= container
    return manifests


def failed(meshdrill: Meshdrill, manifests: list[dict[str, Any]], *arguments: str) -> str:
    answer = meshdrill.up("-f", meshdrill.write("app.yaml", manifests), *arguments)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert not meshdrill.processes()
    assert "Traceback" not in answer.stderr
    return answer.stderr


def test_a_port_in_use_is_named_with_what_to_do(meshdrill: Meshdrill) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", meshdrill.port))
        listener.listen()
        message = failed(meshdrill, workload("web"))
    assert f"port {meshdrill.port} of 127.0.0.1" in message
    assert "--port" in message


def test_a_way_out_is_refused_where_nobody_needs_it(meshdrill: Meshdrill) -> None:
    message = failed(meshdrill, workload("web"), "--host-port", "3306", "--platform", "process")
    assert "--host-port: on the process platform pods reach this host's ports as they are" in message
    in_background = meshdrill.up("-d", "--host-port", "3306", "--platform", "process")
    assert in_background.returncode == 1
    assert "--host-port: on the process platform" in in_background.stdout


def test_a_bad_manifest_is_named_by_file_and_line(meshdrill: Meshdrill) -> None:
    message = failed(meshdrill, app("web", imagee="x"))
    assert "app.yaml:" in message
    assert 'unknown field "imagee"' in message


def test_an_app_that_is_never_ready_shows_its_log(meshdrill: Meshdrill) -> None:
    message = failed(meshdrill, workload("web", NEVER_READY="1"), "--timeout", "6")
    assert "not ready after 6 s" in message
    assert "container app is running, but its readiness probe does not succeed" in message
    assert "| GET /health" in message


def test_an_app_that_crashes_shows_its_log_before_the_time_is_up(meshdrill: Meshdrill) -> None:
    command = ["python", "-c", "import sys; sys.exit('no database at localhost')"]
    message = failed(meshdrill, app("web", command=command))
    assert "container app crashed" in message
    assert "exit code 1" in message
    assert "no database at localhost" in message


def test_a_container_with_no_command_is_refused(meshdrill: Meshdrill) -> None:
    manifests = app("web", image="nginx:1")
    del manifests[-1]["spec"]["template"]["spec"]["containers"][0]["command"]
    message = failed(meshdrill, manifests)
    assert 'container "app" has no command' in message
    assert "nginx:1" in message


@pytest.mark.parametrize("kind", ["configMap", "secret"])
def test_what_a_variable_is_taken_from_is_named_where_it_is_missing(meshdrill: Meshdrill, kind: str) -> None:
    reference = {"name": "X", "valueFrom": {f"{kind}KeyRef": {"name": "settings", "key": "x"}}}
    message = failed(meshdrill, app("web", env=[reference]))
    assert f'variable X: {kind.lower()} "settings" not found' in message


def test_an_engine_that_is_not_there_is_refused(meshdrill: Meshdrill) -> None:
    manifests = workload("web")
    manifests[-1]["spec"]["template"]["metadata"]["annotations"] = {"meshdrill.dev/engine": "nginx"}
    assert 'no engine "nginx"' in failed(meshdrill, manifests)
