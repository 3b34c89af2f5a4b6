"""What a user sees when a bootstrap is wrong, and `--mode validate`; Envoy takes the same files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from proxy_sidecar import ads_bootstrap, free_port
from test_proxy_life import static

from tests.real_envoy import real_envoy


def run(folder: Path, bootstrap: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    path = folder / "bootstrap.json"
    path.write_text(json.dumps(bootstrap))
    command = [sys.executable, "-m", "mesh.proxy", "-c", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def bootstraps() -> list[dict[str, Any]]:
    return [static(free_port()), ads_bootstrap(free_port())]


@pytest.mark.parametrize("bootstrap", bootstraps(), ids=["static", "ads"])
def test_a_good_bootstrap_is_valid(tmp_path: Path, bootstrap: dict[str, Any]) -> None:
    done = run(tmp_path, bootstrap, "--mode", "validate")
    assert (done.returncode, done.stdout) == (0, f"configuration '{tmp_path / 'bootstrap.json'}' OK\n"), done.stderr


@pytest.mark.envoy
@pytest.mark.parametrize("bootstrap", bootstraps(), ids=["static", "ads"])
def test_envoy_takes_the_same_bootstrap(tmp_path: Path, bootstrap: dict[str, Any]) -> None:
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(bootstrap))
    command = [real_envoy(), "-c", str(path), "--mode", "validate"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mode", ["serve", "validate"])
def test_a_listener_it_cannot_honour_is_one_line_and_code_1(tmp_path: Path, mode: str) -> None:
    bootstrap = static(free_port())
    bootstrap["static_resources"]["listeners"][0]["udp_listener_config"] = {}
    done = run(tmp_path, bootstrap, "--mode", mode)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith('error: Listener "in": udp_listener_config')
    assert "Traceback" not in done.stderr


def test_a_mistake_in_the_file_is_one_line_and_code_1(tmp_path: Path) -> None:
    done = run(tmp_path, {"static_resource": {}})
    assert done.returncode == 1
    assert done.stderr == (
        f'error: {tmp_path}/bootstrap.json:1: Message type "envoy.config.bootstrap.v3.Bootstrap" has no field named '
        '"static_resource"\n'
    )


def test_a_taken_admin_address_is_one_line_and_code_1(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        done = run(tmp_path, {**static(free_port()), "admin": {"address": address}})
    assert done.returncode == 1
    assert f"error: admin.address 127.0.0.1:{port}: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_control_plane_cluster_that_grpc_cannot_dial_is_refused_by_field(tmp_path: Path) -> None:
    bootstrap = ads_bootstrap(free_port(), type="EDS")
    done = run(tmp_path, bootstrap)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        'error: Cluster "xds-grpc": type: the control plane\'s cluster must be STATIC, STRICT_DNS or LOGICAL_DNS'
    )
