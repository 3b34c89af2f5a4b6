"""Every case in `cases/`, judged on the real Envoy and on our sidecar from the same file."""

from __future__ import annotations

from harness.case import Case
from harness.play import play
from harness.scene import Scene


def test_conformance(scene: Scene, case: Case) -> None:
    differences = play(scene, case)
    assert not differences, "\n".join([*differences, "", f"{scene.engine_name} printed:", scene.engine.output()])
