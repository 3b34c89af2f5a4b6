"""Every case in `cases/`, judged on the real Envoy and on our sidecar from the same file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness.case import Case, CaseFile
from harness.engines import EngineFailed
from harness.play import play
from harness.scene import Scene


def test_conformance(scene: Scene, case: Case) -> None:
    if differences := play(scene, case):
        printed = scene.engine.output()
        pytest.fail("; ".join(differences) + f"\n{scene.engine_name} printed:\n{printed}", pytrace=False)


def test_refusal(refused_file: CaseFile, tmp_path: Path, certificates: Path) -> None:
    """What our sidecar leaves out of Envoy's bootstrap it refuses at start, naming the field."""
    refusal = ""
    try:
        Scene("python", refused_file, tmp_path, certificates).close()
    except EngineFailed as error:
        refusal = str(error)
    assert re.search(rf"{refused_file.refused}.*: .*support", refusal), refusal or "it started: play the file on it"
