"""Where nobody chose a platform: netns where it works, else process, with the reason in a line."""

import json
import subprocess

import pytest
from meshdrill_command import Meshdrill, shop, why_no_netns

FORBIDDEN = 'echo 0 >/proc/sys/user/max_net_namespaces && exec "$0" "$@"'
WITHOUT_NETWORKS = ["unshare", "--user", "--map-root-user", "/bin/sh", "-c", FORBIDDEN]


@pytest.fixture
def nobody_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESHDRILL_PLATFORM", raising=False)


def platform_of(meshdrill: Meshdrill) -> str:
    status = json.loads(meshdrill.run("status", "-o", "json").stdout)
    found: str = status["mesh"]["platform"]
    return found


@pytest.mark.usefixtures("nobody_chose")
def test_a_pod_is_a_network_namespace_where_that_works(meshdrill: Meshdrill) -> None:
    if reason := why_no_netns():
        pytest.skip(f"no network namespaces: {reason}")
    up = meshdrill.up("-d", "-f", meshdrill.write("shop.yaml", shop()))
    assert up.returncode == 0, up.stdout + up.stderr
    assert "platform" not in up.stdout
    assert platform_of(meshdrill) == "netns"
    assert meshdrill.get()[1]["backend"]["color"] == "red"
    refused = meshdrill.run("grpc-bootstrap", "deploy/front")
    assert refused.returncode == 1
    assert "use --platform process" in refused.stderr


@pytest.mark.usefixtures("nobody_chose")
def test_else_it_is_a_process_and_one_line_says_why(meshdrill: Meshdrill) -> None:
    if subprocess.run([*WITHOUT_NETWORKS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespace in which networks could be forbidden")
    arguments = ["up", "-d", "--port", str(meshdrill.port), "-f", meshdrill.write("shop.yaml", shop())]
    up = subprocess.run(
        [*WITHOUT_NETWORKS, *meshdrill.command(*arguments)],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert up.returncode == 0, up.stdout + up.stderr
    first, *_ = up.stdout.splitlines()
    assert first.startswith("platform process, for netns does not work here: the kernel, or this container, grants no")
    assert platform_of(meshdrill) == "process"
    assert meshdrill.get()[0] == 200
    asked_for = subprocess.run(
        [*WITHOUT_NETWORKS, *meshdrill.command(*arguments, "--platform", "netns")],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert asked_for.returncode == 1
    assert "--platform netns: the kernel, or this container, grants no namespaces" in asked_for.stdout
