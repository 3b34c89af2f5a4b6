"""Istio's semantics on the wire: each folder of `xds/` is a case.

`input.yaml` is laid over `bookinfo.yaml`; `proxy.yaml` says for which proxy to compile and which resources to show;
`expected.json` holds them. `pytest tests/golden --update` writes it anew. A real Envoy must accept every case whole,
and so must our sidecar.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import MessageToDict
from xdskit import envoy, python_sidecar
from xdskit.mesh import BOOKINFO, Mesh, assignments, clusters, listeners, objects, routes, secrets

from mesh.xds.ads.catalog import ProxyConfig
from mesh.xds.compile.proxy import Engine, Interception, Role

CASES = sorted(path.parent for path in (Path(__file__).parent / "xds").glob("*/input.yaml"))
TABLES = {"clusters": clusters, "endpoints": assignments, "listeners": listeners, "routes": routes, "secrets": secrets}


def compiled(case: Path, engine: Engine | None = None) -> tuple[ProxyConfig, dict[str, str]]:
    """For the engine that the case names, unless another is given."""
    proxy = yaml.safe_load((case / "proxy.yaml").read_text())
    mesh = Mesh(objects(BOOKINFO.read_text(), (case / "input.yaml").read_text()))
    role, engine = Role(proxy.get("role", "sidecar")), engine or Engine(proxy.get("engine", "python"))
    interception = Interception(proxy.get("interception", "NONE"))
    return mesh.config(proxy["pod"], proxy.get("namespace", "default"), role, engine, interception), proxy["show"]


def shown(config: ProxyConfig, show: dict[str, str]) -> dict[str, Any]:
    """The resources whose names match the case's patterns; of route configurations, the virtual hosts."""
    result: dict[str, Any] = {}
    for table, pattern in show.items():
        if table == "virtual_hosts":
            found = {host.name: host for own in routes(config).values() for host in own.virtual_hosts}
        else:
            found = TABLES[table](config)
        result[table] = {
            name: MessageToDict(message, preserving_proto_field_name=True)
            for name, message in sorted(found.items())
            if re.search(pattern, name)
        }
    return result


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_resources_are_those_expected(case: Path, request: pytest.FixtureRequest) -> None:
    config, show = compiled(case)
    got = shown(config, show)
    expected = case / "expected.json"
    if request.config.getoption("--update"):
        expected.write_text(json.dumps(got, indent=2, sort_keys=True) + "\n")
    assert got == json.loads(expected.read_text())


@pytest.mark.envoy
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_envoy_accepts_them(case: Path, tmp_path: Path) -> None:
    config, _ = compiled(case, Engine.ENVOY)
    assert envoy.validate(config, tmp_path) == ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_sidecar_accepts_them(case: Path, tmp_path: Path) -> None:
    config, _ = compiled(case)
    assert python_sidecar.validate(config, tmp_path) == ""


@pytest.mark.envoy
def test_envoy_refuses_what_is_wrong(tmp_path: Path) -> None:
    """The check above can fail: a regex that RE2 cannot read is found."""
    text = (Path(__file__).parent / "xds" / "match-uri" / "input.yaml").read_text()
    broken = objects(BOOKINFO.read_text(), text.replace('"/v[0-9]+/.*"', '"(?<a"'))
    assert "invalid named capture group" in envoy.validate(Mesh(broken).config("productpage-v1-5d4f-aaaaa"), tmp_path)
