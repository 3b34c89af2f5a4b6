"""Images of a pod's containers: whether they are there. No I/O but the engine's."""

from collections.abc import Mapping
from typing import Any

from mesh.api.pod import Container
from mesh.api.security_context import PodSecurityContext
from mesh.platforms.base import PROXY_CONTAINER, PlatformError
from mesh.platforms.docker.engine import Engine, EngineError
from mesh.platforms.docker.limits import limits_of
from mesh.platforms.docker.security import Rights, check_proxy, rights_of

OURS = "meshdrill/"
_UNKNOWN = "65534"


class Images:
    """Of one engine. What is there is never pulled."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def check(self, container: Container, pod: PodSecurityContext) -> None:
        """Raises PlatformError for an image that cannot come: one of ours that was not built, one never to be pulled,
        and for rights or limits that it cannot have, as far as they are known before it is there."""
        name = container.image
        if not name:
            raise PlatformError(f'container "{container.name}" names no image')
        found = self._engine.image(name)
        limits_of(container)
        if container.name == PROXY_CONTAINER:
            check_proxy(container)
        else:
            rights_of(container, pod, found or {"Config": {"User": _UNKNOWN}})
        if found is not None:
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

    def rights(self, container: Container, pod: PodSecurityContext) -> Rights:
        """Of an app's container, whose image is pulled if it is not there. Blocks. Raises PlatformError."""
        self.check(container, pod)
        return rights_of(container, pod, self.have(container.image))
