"""The state folder: one owner at a time, and for this user's eyes alone."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from mesh.control.errors import SetupError

_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class StateFolder:
    """A state folder that this process owns, until it leaves the context or ends."""

    path: Path
    _lock: IO[bytes]

    @property
    def store(self) -> Path:
        return self.path / "store.db"

    @property
    def ca(self) -> Path:
        return self.path / "ca"

    def __enter__(self) -> StateFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the folder to whoever comes next."""
        self._lock.close()

    def admin_token(self) -> str:
        """The admin's token, made on first use. Raises SetupError if others can read it, or it is no token."""
        path = self.path / "token"
        if not path.exists():
            _create_token(path)
        _check_private(path, 0o600)
        token = path.read_text(errors="replace").strip()
        if len(token) < _TOKEN_BYTES or not token.isascii():
            raise SetupError(f"{path} holds no usable token: remove it, and a new one is made")
        return token


def open_state(path: Path) -> StateFolder:
    """Take the state folder, made with mode 0700 if absent. Raises SetupError if it is unsafe or taken."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(path, 0o700)
        lock = (path / "control.lock").open("ab")
    except OSError as error:
        raise SetupError(f"state folder {path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise SetupError(
            f"state folder {path} is in use by another control plane: stop it with `meshdrill down`"
        ) from error
    return StateFolder(path, lock)


def _create_token(path: Path) -> None:
    """Written whole under another name first, so that a crash leaves no empty token behind."""
    fresh = path.with_name(".token-new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def _check_private(path: Path, mode: int) -> None:
    status = path.stat()
    if status.st_uid != os.getuid():
        raise SetupError(f"{path} belongs to another user (uid {status.st_uid})")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise SetupError(
            f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):04o}): chmod {mode:o} {path}"
        )
