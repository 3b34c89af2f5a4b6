"""A control plane a module shares, and one of its own for a test that kills it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from control_process import ControlProcess, free_address

from mesh.client import MeshClient


def running(folder: Path) -> Iterator[ControlProcess]:
    control = ControlProcess(folder / "mesh", free_address())
    control.state.mkdir(mode=0o700)
    try:
        control.start().close()
        yield control
    finally:
        if control.process is not None:
            control.kill()


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    """Shared by a module's tests, which keep to objects of their own."""
    yield from running(tmp_path_factory.mktemp("control"))


@pytest.fixture
def own_control(tmp_path: Path) -> Iterator[ControlProcess]:
    """For a test that ends or restarts it."""
    yield from running(tmp_path)


@pytest.fixture
def client(control: ControlProcess) -> Iterator[MeshClient]:
    with control.client() as client:
        yield client
