"""Each drill that comes along passes on the real Envoy; that they pass on our sidecar, the demo shows.

Those that need a network of the pods' own are in `test_network_drill.py`.
"""

from pathlib import Path

import pytest
from bookinfo_mesh import Bookinfo

from chaos import drill

pytestmark = [pytest.mark.bookinfo, pytest.mark.envoy]


ANYWHERE = [each.name for each in drill.built_in() if not any(phase.faults for phase in each.spec.phases)]


@pytest.mark.parametrize("name", ANYWHERE)
def test_a_drill_passes_on_envoy(envoy_bookinfo: Bookinfo, out: Path, name: str) -> None:
    run = envoy_bookinfo.drill(name, out=out)
    assert run.code == 0, run.output
    assert set(run.outcomes.values()) == {"held"}
    assert run.journal[0]["load"]["requests"] > 0
    assert envoy_bookinfo.faults() == []
