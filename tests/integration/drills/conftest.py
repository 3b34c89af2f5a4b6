"""One mesh with Bookinfo an engine, for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from bookinfo_mesh import Bookinfo, running


@pytest.fixture(scope="session")
def bookinfo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bookinfo]:
    with running(tmp_path_factory.mktemp("bookinfo"), "python") as mesh:
        yield mesh


@pytest.fixture(scope="session")
def envoy_bookinfo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bookinfo]:
    with running(tmp_path_factory.mktemp("envoy-bookinfo"), "envoy") as mesh:
        yield mesh


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a test's runs put their files."""
    return tmp_path / "results"
