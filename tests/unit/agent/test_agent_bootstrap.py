"""The bootstrap as the real Envoy takes it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from xdskit.envoy import BINARY
from xdskit.pki import Authority

from mesh.agent.bootstrap import bootstrap
from mesh.agent.settings import read_settings

ENVIRON = {
    "POD_NAME": "web-1",
    "POD_NAMESPACE": "shop",
    "INSTANCE_IP": "127.90.1.1",
    "SERVICE_ACCOUNT": "web",
    "CA_ADDR": "127.90.0.1:15014",
    "DISCOVERY_ADDRESS": "127.90.0.1:15012",
    "ISTIO_META_ENGINE": "envoy",
}


def with_regex(written: dict[str, Any], regex: str) -> dict[str, Any]:
    """With the condition of its first route, that of the readiness port, replaced."""
    manager = written["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    (route,) = manager["route_config"]["virtual_hosts"][0]["routes"]
    route["match"] = {"safe_regex": {"regex": regex}}
    return written


@pytest.mark.envoy
def test_envoy_takes_regular_expressions_as_long_as_istio_lets_it(tmp_path: Path) -> None:
    written = with_regex(bootstrap(read_settings(["proxy", "sidecar"], ENVIRON)), "/users/[a-z0-9-]{1,63}")
    (tmp_path / "bootstrap.json").write_text(json.dumps(written))
    Authority().write_secrets(tmp_path / "secrets", "spiffe://cluster.local/ns/shop/sa/web")
    done = subprocess.run(
        [BINARY, "--mode", "validate", "-c", "bootstrap.json", "-l", "warning"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
