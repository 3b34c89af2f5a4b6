"""Meshes for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from meshdrill_command import Meshdrill, shop


@pytest.fixture
def meshdrill(tmp_path: Path) -> Iterator[Meshdrill]:
    command = Meshdrill(tmp_path / "state")
    yield command
    command.run("down")
    assert not command.processes()


@pytest.fixture(scope="module", params=["python", pytest.param("envoy", marks=pytest.mark.envoy)])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshdrill]:
    """A mesh with the shop on it, for the tests of a module, on each engine."""
    command = Meshdrill(tmp_path_factory.mktemp("mesh") / "state")
    with command.up_in_front("-f", command.write("shop.yaml", shop()), "--proxy", request.param):
        yield command
    assert not command.processes()
