"""Images of a pod's containers: whether they are there, and what their processes may be. No I/O but the engine's."""

from collections.abc import Mapping
from typing import Any

from mesh.api.pod import Container
from mesh.platforms.base import PlatformError
from mesh.platforms.docker.engine import Engine, EngineError

OURS = "meshdrill/"

_ROOT = ("", "root", "0")
_STEPPING_DOWN = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "NET_BIND_SERVICE", "SETGID", "SETUID")
"""What images that start as root use to become somebody else: nginx, MariaDB, PostgreSQL, Redis."""


class Images:
    """Of one engine. What is there is never pulled."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def check(self, container: Container) -> None:
        """Raises PlatformError for an image that cannot come: one of ours not built, or one never to be pulled."""
        name = container.image
        if not name:
            raise PlatformError(f'container "{container.name}" names no image')
        if self._engine.image(name) is not None:
            return
        if name.startswith(OURS):
            raise PlatformError(f"image {name} is not there: build it with `meshdrill images build`")
        if container.image_pull_policy == "Never":
            raise PlatformError(f"image {name} is not there, and imagePullPolicy is Never")

    def have(self, name: str) -> Mapping[str, Any]:
        """The image, pulled if it is not there. Blocks. Raises EngineError."""
        found = self._engine.image(name)
        if found is None:
            repository, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
            self._engine.do(self._engine.api.pull, repository, tag=tag)
            found = self._engine.image(name)
        if found is None:
            raise EngineError(f"image {name} was pulled, and is not there")
        return found


def capabilities(image: Mapping[str, Any]) -> list[str]:
    """What an app may keep: nothing, unless its image starts as root, which cannot step down without these. Pure."""
    return list(_STEPPING_DOWN) if _user(image) in _ROOT else []


def _user(image: Mapping[str, Any]) -> str:
    return str((image.get("Config") or {}).get("User") or "").partition(":")[0]
