"""Meshes for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_user import User, lab_user
from meshdrill_command import Meshdrill, shop, why_no_netns


@pytest.fixture
def meshdrill(tmp_path: Path) -> Iterator[Meshdrill]:
    command = Meshdrill(tmp_path / "state")
    yield command
    command.run("down")
    assert not command.processes()


ENVOY = pytest.mark.envoy
EACH = [
    pytest.param(("process", "python"), id="process-python"),
    pytest.param(("process", "envoy"), id="process-envoy", marks=ENVOY),
    pytest.param(("netns", "python"), id="netns-python"),
    pytest.param(("netns", "envoy"), id="netns-envoy", marks=ENVOY),
]


@pytest.fixture(scope="module", params=EACH)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshdrill]:
    """A mesh with the shop on it, for the tests of a module, on each platform and engine."""
    platform, engine = request.param
    if platform == "netns" and (reason := why_no_netns()):
        pytest.skip(f"no network namespaces: {reason}")
    command = Meshdrill(tmp_path_factory.mktemp("mesh") / "state")
    with command.up_in_front("-f", command.write("shop.yaml", shop()), "--proxy", engine, "--platform", platform):
        yield command
    assert not command.processes()


@pytest.fixture(params=["root", "rootless"])
def user(request: pytest.FixtureRequest) -> Iterator[User]:
    """Who runs a lab."""
    with lab_user(request.param) as someone:
        yield someone
