"""Somebody who runs labs: root, or a user without privileges."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parent / "lab_scripts.py"
ROOT = Path(__file__).parents[3]
NOBODY = 65534

WHY_NOT = """
from mesh.platforms.netns.availability import why_not
print(why_not())
"""


@dataclass(frozen=True)
class User:
    """Somebody who runs labs: `command` comes before a script's arguments; `folder` is theirs to write in."""

    command: list[str]
    environment: dict[str, str]
    folder: Path
    scripts: Path = SCRIPTS

    def run(self, script: str, *arguments: str) -> Any:
        done = subprocess.run(
            self.of(script, *arguments), env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def of(self, script: str, *arguments: str) -> list[str]:
        return [*self.command, str(self.scripts), script, *arguments]

    def begin(self, script: str, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.of(script, *arguments), env=self.environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        )


def unprivileged() -> list[str]:
    """A Python of this version that an unprivileged user may run, as that user."""
    if os.geteuid() != 0:
        return [sys.executable]
    prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all"]
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # By a shell in between: setpriv itself still has what it takes to reach into root's folders.
    look = [*prefix, "/bin/sh", "-c", 'exec "$0" -c "import sys, encodings; print(sys.version_info[:2])"']
    for candidate in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        found = subprocess.run([*look, candidate], capture_output=True, text=True, timeout=20, check=False)
        if found.stdout.strip() == str(tuple(sys.version_info[:2])):
            return [*prefix, "/bin/sh", "-c", 'exec "$0" "$@"', candidate]
    pytest.skip(f"no {name} that an unprivileged user may run")


def installed(user: User) -> list[str]:
    """The user's command for a Python that has our packages without being told so by variables, which no process of a
    mesh inherits; and beside it the command `envoy`."""
    if user.command == [sys.executable]:
        return user.command
    *prefix, python = user.command
    venv = user.folder / "venv"
    subprocess.run([*user.command, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=60)
    (site,) = (venv / "lib").glob("python3.*/site-packages")
    (site / "meshdrill.pth").write_text(user.environment["PYTHONPATH"].replace(os.pathsep, "\n"))
    envoy = venv / "bin" / "envoy"
    envoy.write_text(f"#!{venv}/bin/python\nfrom envoy._main import main\nmain()\n")
    envoy.chmod(0o755)
    return [*prefix, str(venv / "bin" / Path(python).name)]


@contextmanager
def lab_user(kind: str) -> Iterator[User]:
    """`root` or `rootless`; the test is skipped where there is none, or no lab can be made."""
    if kind == "root" and os.geteuid() != 0:
        pytest.skip("only root can run a lab as root")
    folder = Path(tempfile.mkdtemp(prefix="lab-"))
    command = [sys.executable] if kind == "root" else unprivileged()
    if kind == "rootless" and os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    packages = os.pathsep.join([str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))])
    someone = User(command, {"PATH": os.defpath, "PYTHONPATH": packages, "HOME": str(folder)}, folder)
    asked = subprocess.run(
        [*command, "-c", WHY_NOT], env=someone.environment, capture_output=True, text=True, timeout=30, check=True
    )
    if reason := asked.stdout.strip():
        pytest.skip(f"no lab can be made here: {reason}")
    yield someone
    shutil.rmtree(folder)
