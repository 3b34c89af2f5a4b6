"""The Docker engine of this machine: its API in threads, its errors told once."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from mesh.platforms.base import PlatformError

try:
    import docker
    import docker.errors
    import docker.types
    from requests.exceptions import RequestException
except ImportError as error:
    raise PlatformError(
        "--platform docker needs the library `docker`: install it with `pip install 'meshdrill[docker]'`"
    ) from error

_P = ParamSpec("_P")
_T = TypeVar("_T")

_TIMEOUT_S = 120
_THREADS = 16
_LOCAL = "http+docker://"


class EngineError(PlatformError):
    """The engine refused, or does not answer. `status` is HTTP's, 0 without an answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Engine:
    """`api` is docker's low-level client, whose methods block; `call` runs one of them in a thread."""

    def __init__(self) -> None:
        """Raises EngineError when there is no engine on this machine that we may use."""
        try:
            self.api: Any = docker.from_env(timeout=_TIMEOUT_S, max_pool_size=64).api
            self.api.ping()
        except (docker.errors.DockerException, RequestException) as error:
            raise EngineError(
                f"no Docker engine answers ({_first_line(error)}): is it running, and may this user use its socket?"
            ) from error
        if not str(self.api.base_url).startswith(_LOCAL):
            raise EngineError(
                f"the Docker engine at {self.api.base_url} is not on this machine: pods are reached by sockets of its "
                "file system; unset DOCKER_HOST, or set it to a unix:// address"
            )
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="docker")

    def refuse_mapped_ids(self) -> None:
        """Raises EngineError where ids in containers are not the host's: the control plane runs as this user, whose the
        state folder is, and a proxy is known by ids that are wider than such a map."""
        if mapping := mapping_of(self.do(self.api.info).get("SecurityOptions") or []):
            raise EngineError(
                f"this Docker engine maps users ({mapping}), and pods need the host's: use --platform netns"
            )

    def do(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Calls in this thread. Raises EngineError."""
        try:
            return function(*args, **kwargs)
        except docker.errors.APIError as error:
            raise EngineError(str(error.explanation or error), int(error.status_code or 0)) from error
        except (docker.errors.DockerException, RequestException) as error:
            raise EngineError(f"the Docker engine: {_first_line(error)}") from error

    async def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Raises EngineError, or what `function` raises of its own."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: self.do(function, *args, **kwargs))

    def image(self, name: str) -> dict[str, Any] | None:
        """What the engine knows of an image; None when it is not there. Raises EngineError."""
        try:
            found: dict[str, Any] = self.do(self.api.inspect_image, name)
        except EngineError as error:
            if error.status == 404:
                return None
            raise
        return found

    def exec(self, container: str, command: list[str], user: str = "") -> tuple[int, bytes]:
        """A command's exit code and all it said. Blocks. Raises EngineError."""
        made = self.do(self.api.exec_create, container, command, user=user)["Id"]
        output = self.do(self.api.exec_start, made, stream=True)
        try:
            said = b"".join(output)
        finally:
            close(output)
        return int(self.do(self.api.exec_inspect, made)["ExitCode"] or 0), said

    def remove(self, container: str) -> None:
        """With its volumes, whatever it is doing; no error when it is gone, or on its way. Raises EngineError."""
        try:
            self.do(self.api.remove_container, container, force=True, v=True)
        except EngineError as error:
            if error.status not in (404, 409):
                raise

    def remove_volume(self, name: str) -> None:
        """No error when it is gone. Raises EngineError."""
        try:
            self.do(self.api.remove_volume, name)
        except EngineError as error:
            if error.status != 404:
                raise

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.api.close()


def bound(source: str, target: str) -> Any:
    """A path of this host, seen read-only in a container."""
    return docker.types.Mount(target, source, type="bind", read_only=True)


def engine_volume(name: str, target: str, labels: Mapping[str, str] | None = None, *, writable: bool = True) -> Any:
    """A volume of the engine's, made with these labels if it is not there, and empty even where the image is not."""
    made_with = None if labels is None else dict(labels)
    return docker.types.Mount(target, name, type="volume", read_only=not writable, no_copy=True, labels=made_with)


def mapping_of(security_options: Sequence[str]) -> str:
    """By what an engine maps users, from what it tells of itself; nothing where it does not. Pure."""
    named = {option.partition(",")[0].removeprefix("name=") for option in security_options}
    return ", ".join(sorted(named & {"userns", "rootless"}))


def close(stream: Any) -> None:
    """Closes a stream's connection: the library's own way leaves that to the garbage collector."""
    stream._response.close()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
