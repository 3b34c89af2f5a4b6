"""Fixtures of the conformance suite: every case of every file in `cases/`, on every engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from harness.case import CaseFile, load
from harness.engines import EngineFailed
from harness.pki import make_certificates
from harness.scene import Scene

ROOT = Path(__file__).parent / "cases"
ENGINES = ("envoy", "python")


@dataclass(frozen=True, eq=False)
class Setting:
    """An engine and a case file: one process serves all cases of that pair, and one failed start fails them all."""

    engine: str
    file: CaseFile
    failures: list[str] = field(default_factory=list)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a case and engine, in an order that lets each process serve its whole file."""
    if "scene" not in metafunc.fixturenames:
        return
    files = [load(path, ROOT) for path in sorted(ROOT.rglob("*.yaml"))]
    settings = [Setting(engine, file) for engine in ENGINES for file in files]
    parameters = [
        pytest.param(
            setting,
            case,
            id=f"{setting.engine}-{setting.file.name}-{case.case}",
            marks=[pytest.mark.envoy] if setting.engine == "envoy" else [],
        )
        for setting in settings
        for case in setting.file.cases
    ]
    metafunc.parametrize(("scene", "case"), parameters, indirect=["scene"], scope="module")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every certificate that the TLS cases name."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Path
) -> Iterator[Scene]:
    """A running engine with the upstreams of one case file."""
    setting: Setting = request.param
    if setting.failures:
        pytest.fail(setting.failures[0], pytrace=False)
    try:
        scene = Scene(setting.engine, setting.file, tmp_path_factory.mktemp("scene"), certificates)
    except EngineFailed as error:
        setting.failures.append(str(error))
        pytest.fail(str(error), pytrace=False)
    yield scene
    scene.close()
