"""Wheels for images, gathered on the host: its pip knows the way to an index, which is nobody else's to know.

So a build needs no network, and no address, authority or secret of this host gets into an image.
"""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mesh
from mesh.platforms.base import PlatformError

_SOURCE = Path(mesh.__file__).parents[1]
_ASK = (
    "import json, platform, sys; "
    "print(json.dumps([list(sys.version_info[:2]), platform.machine(), platform.libc_ver()]))"
)
_OLDEST_GLIBC = 5
_OLD_NAMES = ("manylinux1", "manylinux2010", "manylinux2014")
_LINES = 20
_FILES = ("pyproject.toml", "README.md", "LICENSE")
_PACKAGES = ("apps", "chaos", "loadtests", "mesh")
_EPOCH = "315532800"  # the oldest date of an archive: the same files make the same wheel, which is not installed again

ASK = ("python3", "-c", _ASK)
"""The command that a base image answers for `Target.read`."""


@dataclass(frozen=True, slots=True)
class Target:
    """The Python that wheels are for."""

    python: str
    machine: str
    glibc: int

    @classmethod
    def read(cls, answer: str, base: str) -> "Target":
        """Raises PlatformError for a Python that is too old, or a system that most wheels are not made for."""
        try:
            (major, minor), machine, (libc, version) = json.loads(answer)
        except ValueError as error:
            raise PlatformError(f"base image {base} has no python3 that runs: {answer.strip()}") from error
        if (major, minor) < (3, 11):
            raise PlatformError(f"base image {base} has Python {major}.{minor}; 3.11 or later is needed")
        if libc != "glibc":
            raise PlatformError(f"base image {base} is not built on glibc, for which wheels are made: use a Debian")
        return cls(f"{major}.{minor}", machine, int(version.split(".")[1]))

    def arguments(self) -> list[str]:
        """pip's: which wheels fit."""
        names = [*_OLD_NAMES, *(f"manylinux_2_{minor}" for minor in range(_OLDEST_GLIBC, self.glibc + 1))]
        platforms = [word for name in reversed(names) for word in ("--platform", f"{name}_{self.machine}")]
        return ["--only-binary=:all:", "--implementation", "cp", "--python-version", self.python, *platforms]


def gather(requirements: Path, target: Target, folder: Path) -> None:
    """What the file asks for, with all that it needs. Raises PlatformError."""
    _download(["-r", str(requirements)], target, folder)


def gather_ours(target: Target, folder: Path) -> None:
    """Meshdrill's own wheel, from its source where this is a checkout, and all that it needs. Raises PlatformError."""
    if (_SOURCE / "pyproject.toml").is_file():
        with tempfile.TemporaryDirectory(prefix="meshdrill-") as copy:
            _copy_source(Path(copy))
            _pip(["wheel", "--no-deps", "--wheel-dir", str(folder), copy])
    else:
        _download(["--no-deps", f"meshdrill=={importlib.metadata.version('meshdrill')}"], target, folder)
    own = next(folder.glob("meshdrill-*.whl"))
    _download([f"{own}[envoy]"], target, folder)


def _copy_source(to: Path) -> None:
    """A wheel built in the checkout would leave a folder there, and take up what an earlier one left."""
    for name in _FILES:
        shutil.copy(_SOURCE / name, to)
    for name in _PACKAGES:
        shutil.copytree(_SOURCE / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))


def _download(what: Sequence[str], target: Target, folder: Path) -> None:
    constraints = _SOURCE / "constraints.txt"
    pinned = ["--constraint", str(constraints)] if constraints.is_file() else []
    _pip(["download", "--dest", str(folder), *pinned, *target.arguments(), *what])


def _pip(arguments: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *arguments]
    dated = {**os.environ, "SOURCE_DATE_EPOCH": _EPOCH}
    done = subprocess.run(command, env=dated, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-_LINES:])
        raise PlatformError(f"pip {arguments[0]} failed, so the images have nothing to be made of:\n{said}")
