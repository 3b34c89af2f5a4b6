"""Every case in `cases/`, judged on the real Envoy and on our sidecar from the same file."""

from __future__ import annotations

import pytest
from harness.case import Case
from harness.play import play
from harness.scene import Scene


def test_conformance(scene: Scene, case: Case) -> None:
    if differences := play(scene, case):
        printed = scene.engine.output()
        pytest.fail("; ".join(differences) + f"\n{scene.engine_name} printed:\n{printed}", pytrace=False)
