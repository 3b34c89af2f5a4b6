"""The state folder of a mesh: who holds it, what it starts with, and `mesh.json`."""

import contextlib
import fcntl
import json
import os
import shutil
from pathlib import Path

from mesh.platforms.base import PlatformError

_LOCK = "lock"
_MESH = "mesh.json"
_NOT_KEPT = ("mesh.json", "token", "store.db", "store.db-wal", "store.db-shm", "pods", "logs")


class StateFolder:
    """Held by one node at a time, by a lock that ends with its process. The root key in `ca/` is kept between runs."""

    def __init__(self, path: Path, pid: int) -> None:
        """`pid` is whom `meshdrill down` is to signal. Raises PlatformError when the folder is held."""
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)
        self._lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise PlatformError(
                f"a mesh is already running in {path}: see `meshdrill status`, or end it with `meshdrill down`"
            ) from error
        os.truncate(self._lock, 0)
        os.write(self._lock, str(pid).encode())

    def clear(self) -> None:
        """Leaves nothing of an earlier run but its root key."""
        for name in _NOT_KEPT:
            entry = self.path / name
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
        (self.path / "logs").mkdir(mode=0o700)

    def publish(self, **fields: object) -> None:
        """Writes `mesh.json`, so that others find this mesh."""
        temporary = self.path / f".{_MESH}.new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "w") as file:
            json.dump(fields, file, indent=1)
        temporary.rename(self.path / _MESH)

    def close(self) -> None:
        (self.path / _MESH).unlink(missing_ok=True)
        os.close(self._lock)


def holder(path: Path) -> int | None:
    """The pid of the node that holds the folder, or None when nobody does."""
    try:
        fd = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with contextlib.closing(os.fdopen(fd, "rb+")) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read()
            return int(text) if text.isdigit() else None
    return None
