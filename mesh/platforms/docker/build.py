"""Builds images: of the apps, and the one that a mesh's own containers run from."""

import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

from mesh.platforms.base import PlatformError
from mesh.platforms.docker import wheels
from mesh.platforms.docker.engine import Engine, EngineError
from mesh.platforms.docker.images import OURS, Images
from mesh.platforms.docker.ownership import PREFIX

DEFAULT_BASE = "python:3.12-slim"
PROXY = "proxy"
_VERSION = f"{PREFIX}version"
_LINES = 30

Say = Callable[[str], None]


def names() -> list[str]:
    """What can be built: the mesh's own image and one an app."""
    return [PROXY, *sorted(file.parent.name for file in _apps().glob("*/Dockerfile"))]


class Builder:
    """Of one engine, on one base."""

    def __init__(self, engine: Engine, base: str, tag: str, say: Say) -> None:
        """Raises PlatformError when the base cannot be had, or cannot be built on."""
        self._engine = engine
        self._base = base
        self._tag = tag
        self._say = say
        say(f"base {base}")
        try:
            Images(engine).have(base)
        except EngineError as error:
            raise PlatformError(
                f"base image {base} is not there and cannot be pulled ({error}). "
                "Where no registry is at hand: scripts/base-image meshdrill/base, then --base meshdrill/base"
            ) from error
        self._target = wheels.Target.read(self._run_in_base(), base)

    def build(self, name: str) -> str:
        """The image's name. Raises PlatformError with the end of what the build said."""
        tag = f"{OURS}{name}:{self._tag}"
        with tempfile.TemporaryDirectory(prefix="meshdrill-") as made, tempfile.TemporaryFile() as context:
            folder = Path(made)
            requirements = _apps() / name / "requirements.txt"
            self._say(f"{tag}: gathering what it is made of")
            if name == PROXY:
                wheels.gather_ours(self._target, folder)
            elif requirements.exists():
                wheels.gather(requirements, self._target, folder)
            _write_context(context, name, folder)
            self._build(tag, context, _dockerfile(name))
        return tag

    def _build(self, tag: str, context: IO[bytes], dockerfile: str) -> None:
        arguments = {"BASE": self._base, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/build"}
        said: list[str] = []
        output: Iterator[dict[str, Any]] = self._engine.do(
            self._engine.api.build,
            fileobj=context,
            custom_context=True,
            dockerfile=dockerfile,
            tag=tag,
            buildargs=arguments,
            labels={_VERSION: version("meshdrill")},
            rm=True,
            forcerm=True,
            decode=True,
        )
        for message in output:
            if "error" in message:
                raise PlatformError("\n".join([f"{tag}: {message['error'].strip()}", *said[-_LINES:]]))
            text = str(message.get("stream", "")).strip()
            if text.startswith("Step "):
                self._say(f"{tag}: {text}")
            if text:
                said.append(text)

    def _run_in_base(self) -> str:
        api = self._engine.api
        made = self._engine.do(
            api.create_container,
            self._base,
            entrypoint=list(wheels.ASK),
            command=[],
            labels={_VERSION: version("meshdrill")},
            host_config=api.create_host_config(network_mode="none"),
        )["Id"]
        try:
            self._engine.do(api.start, made)
            self._engine.do(api.wait, made)
            return bytes(self._engine.do(api.logs, made)).decode(errors="replace")
        finally:
            self._engine.remove(made)


def _dockerfile(name: str) -> str:
    return "mesh/Dockerfile" if name == PROXY else f"apps/{name}/Dockerfile"


def _write_context(file: IO[bytes], name: str, gathered: Path) -> None:
    """Only what the image is made of, owned by root, without dates: what has not changed is not built again."""
    with tarfile.open(fileobj=file, mode="w") as archive:
        if name == PROXY:
            dockerfile = Path(str(files("mesh").joinpath("Dockerfile")))
            _add(archive, dockerfile, "mesh/Dockerfile")
        else:
            root = _apps()
            for source in [root / "__init__.py", *_sources(root / "common"), *_sources(root / name)]:
                _add(archive, source, f"apps/{source.relative_to(root)}")
        for wheel in sorted(gathered.glob("*.whl")):
            _add(archive, wheel, f"wheels/{wheel.name}")
    file.seek(0)


def _sources(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def _add(archive: tarfile.TarFile, source: Path, name: str) -> None:
    content = source.read_bytes()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))


def _apps() -> Path:
    return Path(str(files("apps")))
