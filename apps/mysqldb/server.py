"""MariaDB as a child, on a data folder that lives as long as it does."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from .config import Config
from .schema import statements

_PREFIX = "meshdrill-mysqldb-"
_PR_SET_PDEATHSIG = 1  # prctl(2)
# For two rows and a few clients: what a server keeps for more makes it slow to start and large.
_SMALL = (
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-file-size=4M",
    "--innodb-flush-log-at-trx-commit=0",
    "--performance-schema=0",
    "--max-connections=100",
    "--log-warnings=1",  # a probe that only connects is worth no line
)


class InstallError(Exception):
    """The data folder could not be made; the message is what the installing program said."""


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; the exit code, as a shell counts it.

    Raises InstallError, and FileNotFoundError where there is no MariaDB.
    """
    with _folder(config.data) as folder:
        _install(folder)
        start = folder / "start.sql"
        start.touch(0o600)
        start.write_text(statements(config.password, config.delay_seconds))
        command = _command(config, folder, start)
        server = subprocess.Popen(command, preexec_fn=_end_with_parent)  # noqa: PLW1509 - this process has no threads

        def stop(signum: int, frame: FrameType | None) -> None:
            server.terminate()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        code = server.wait()
        return code if code >= 0 else 128 - code


def _install(folder: Path) -> None:
    command = [
        "mariadb-install-db",
        "--no-defaults",
        f"--datadir={folder / 'data'}",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--skip-name-resolve",
        "--innodb-log-file-size=4M",
        *_as_whom(),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise InstallError(done.stdout)


def _command(config: Config, folder: Path, start: Path) -> list[str]:
    return [
        "mariadbd",
        "--no-defaults",
        f"--datadir={folder / 'data'}",
        f"--socket={folder / 'socket'}",
        f"--pid-file={folder / 'pid'}",
        f"--init-file={start}",
        f"--bind-address={config.host}",
        f"--port={config.port}",
        "--skip-name-resolve",
        *_SMALL,
        *_as_whom(),
    ]


def _as_whom() -> list[str]:
    """It refuses to be root's unless it is told so. In a rootless lab the user is root of its own."""
    return ["--user=root"] if os.geteuid() == 0 else []


def _end_with_parent() -> None:
    """The server ends with this process even where this one is killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    """A folder for the length of the block, and none of those that a killed process of ours has left."""
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(lock)


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(folder / "lock", os.O_RDWR)
        except OSError:
            continue  # another user's, or another process is about to lock it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        except OSError:
            continue  # its process runs, or has just removed it
        finally:
            os.close(lock)
