"""Each drill that comes along passes on the real Envoy; that they pass on our sidecar, the demo shows."""

from pathlib import Path

import pytest
from bookinfo_mesh import Bookinfo

from chaos import drill

pytestmark = [pytest.mark.bookinfo, pytest.mark.envoy]


@pytest.mark.parametrize("name", [each.name for each in drill.built_in()])
def test_a_drill_passes_on_envoy(envoy_bookinfo: Bookinfo, out: Path, name: str) -> None:
    run = envoy_bookinfo.drill(name, out=out)
    assert run.code == 0, run.output
    assert set(run.outcomes.values()) == {"held"}
    assert run.journal[0]["load"]["requests"] > 0
    assert envoy_bookinfo.faults() == []
