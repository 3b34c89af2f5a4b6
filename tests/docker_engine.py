"""A Docker engine for tests, with the images of the code as it is."""

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.platforms.base import PlatformError

ROOT = Path(__file__).parents[1]
BASE = "meshdrill/base:latest"
BOOKINFO = ("details", "productpage", "ratings", "reviews")
SHOP_IMAGE = "meshdrill-tests/shop:latest"
_BUILD_S = 900
_SHOP = f"""FROM {BASE}
COPY shop.py /shop.py
ENV HOST=0.0.0.0 COLOR=red
USER 1000:1000
ENTRYPOINT ["python3", "/shop.py"]
CMD ["8000"]
"""


def engine() -> Any:
    """An `Engine`; skips the test where none can run."""
    pytest.importorskip("docker", reason="there is no library `docker` (the docker extra)")
    from mesh.platforms.docker.engine import Engine

    try:
        return Engine()
    except PlatformError as error:
        pytest.skip(str(error))


def prepare(folder: Path) -> Any:
    """The engine, with the mesh's image and the shop's. Skips the test where there is no base to build on."""
    found = _engine_with("proxy")
    (folder / "Dockerfile").write_text(_SHOP)
    (folder / "shop.py").write_bytes((ROOT / "tests" / "integration" / "platforms" / "shop.py").read_bytes())
    for _ in found.api.build(path=str(folder), tag=SHOP_IMAGE, rm=True, decode=True):
        pass
    assert found.image(SHOP_IMAGE) is not None
    return found


def prepare_bookinfo() -> Any:
    """The engine, with the mesh's image and those of Bookinfo's apps. Skips the test as `prepare` does."""
    return _engine_with("proxy", *BOOKINFO)


def _engine_with(*names: str) -> Any:
    """Images of ours; what has not changed is not built again."""
    found = engine()
    with _alone():
        if found.image(BASE) is None:
            _make_base()
        _run([sys.executable, "-m", "mesh.cli.main", "images", "build", *names, "--base", BASE])
    return found


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Of test runs beside each other the first one builds, and the others find it built."""
    with open(Path(tempfile.gettempdir()) / f"meshdrill-tests-{os.getuid()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_base() -> None:
    command = [str(ROOT / "scripts" / "base-image"), BASE]
    made = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_S, check=False)
    if made.returncode != 0:
        pytest.skip(f"no base image can be made: {made.stderr.strip()[-300:]}")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def labelled(found: Any, state: Path) -> list[dict[str, Any]]:
    """Containers and networks that bear the labels of the mesh in this state folder."""
    from mesh.platforms.docker.ownership import Ownership

    own = Ownership.of(state)
    everything = [*found.api.containers(all=True), *found.api.networks()]
    return [each for each in everything if own.covers(each.get("Labels"))]
