"""How tests may write their manifests, and how a run's journal is read."""

import json
from pathlib import Path

import pytest

pytest.importorskip("testcontainers", reason="there is no testcontainers (the testing extra)")

from chaos.verdict import Outcome
from mesh.config.problems import InvalidError
from mesh.testing.drills import DrillRun
from mesh.testing.sources import Source, files_of, manifests_of

ACCOUNT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "by-code"}}
TWO = """
apiVersion: v1
kind: Namespace
metadata: {name: by-text}
---
apiVersion: v1
kind: Namespace
metadata: {name: by-text-too}
"""


def names(*sources: Source, folder: Path) -> list[str]:
    return [each["metadata"]["name"] for each in manifests_of(sources, folder)]


def test_paths_folders_texts_and_objects_are_read_in_their_order(tmp_path: Path) -> None:
    written, shop = tmp_path / "written", tmp_path / "shop"
    written.mkdir()
    shop.mkdir()
    for name in ("a", "b"):
        (shop / f"{name}.yaml").write_text(TWO.replace("by-text", f"by-file-{name}"))
    read = names(str(shop / "b.yaml"), ACCOUNT, TWO, shop / "a.yaml", folder=written)
    assert read == ["by-file-b", "by-file-b-too", "by-code", "by-text", "by-text-too", "by-file-a", "by-file-a-too"]
    assert names(shop, folder=written) == ["by-file-a", "by-file-a-too", "by-file-b", "by-file-b-too"]


def test_what_is_a_file_stays_where_it_is_and_texts_do_not_overwrite_each_other(tmp_path: Path) -> None:
    files = files_of(["shop.yaml", TWO, ACCOUNT], tmp_path)
    assert files[0] == "shop.yaml"
    assert files_of([TWO], tmp_path)[0] not in files
    assert Path(files[1]).read_text() == TWO
    assert len(list(tmp_path.iterdir())) == 3


def test_all_problems_are_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidError) as raised:
        manifests_of([TWO.replace("metadata", "meta"), {**ACCOUNT, "spec": {}}], tmp_path)
    assert len(raised.value.problems) >= 3


def test_a_run_tells_each_assertion_with_its_drill_and_phase(tmp_path: Path) -> None:
    check = {"name": "split", "outcome": "too few requests to tell", "detail": "3 of 90", "evidence": {"requests": 3}}
    journal = [{"experiment": {"name": "canary"}, "run": [{"name": "90/10", "checks": [check]}]}]
    (tmp_path / "journal.json").write_text(json.dumps(journal))
    run = DrillRun(1, "shown", tmp_path)
    assert not run.passed
    assert str(run) == "shown"
    [told] = run.checks
    assert (told.drill, told.phase, told.check, told.outcome) == ("canary", "90/10", "split", Outcome.TOO_FEW)
    assert (told.detail, told.evidence) == ("3 of 90", {"requests": 3})
