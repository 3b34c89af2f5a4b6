"""A Docker engine with our images, and Bookinfo in its containers, one mesh an engine of sidecars."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID

from mesh.testing import MeshContainer
from tests.docker_engine import prepare_bookinfo

PATIENCE_S = 300.0
"""For a mesh to come up beside other tests; nothing here is about how fast that is."""


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Any]:
    """With the images of the code as it is. No container that testcontainers made may be left at the end."""
    with contextlib.closing(prepare_bookinfo()) as engine:
        if engine.image(testcontainers_config.ryuk_image) is None:
            # Ryuk removes containers when a test run is killed. Where its image is not at hand there may be no registry
            # to pull it from, and it is not needed: what tests make bears the mesh's labels, and goes with the mesh.
            testcontainers_config.ryuk_disabled = True
        yield engine
        left = engine.api.containers(all=True, filters={"label": f"{LABEL_SESSION_ID}={SESSION_ID}"})
        for each in left:
            engine.remove(each["Id"])
        assert not left


@pytest.fixture(scope="session", params=["python", pytest.param("envoy", marks=pytest.mark.envoy)])
def bookinfo(docker_engine: Any, request: pytest.FixtureRequest) -> Iterator[MeshContainer]:
    with MeshContainer(engine=request.param).with_startup_timeout(PATIENCE_S) as mesh:
        yield mesh
