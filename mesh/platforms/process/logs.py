"""Container logs: one file a container, appended to by the container itself and kept within a size.

The container holds the file, not a pipe to us, so its output costs us nothing and outlives us.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024
_TAIL_BYTES = 64 * 1024
_ROTATE_EVERY_S = 5.0


def open_log(file: Path) -> int:
    """A descriptor that appends to the file (0600), for a child's standard output and error."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def rotate(file: Path, max_bytes: int = MAX_BYTES) -> bool:
    """Moves the content to `<file>.1` once it is over `max_bytes`. True if it did.

    The writer keeps its descriptor, so the content is copied and cut; what is written between the two is lost.
    """
    try:
        if file.stat().st_size <= max_bytes:
            return False
    except FileNotFoundError:
        return False
    shutil.copyfile(file, file.with_name(file.name + ".1"))
    os.truncate(file, 0)
    return True


async def keep_small(files: Callable[[], Iterable[Path]]) -> None:
    """Looks after them until cancelled."""
    while True:
        await asyncio.sleep(_ROTATE_EVERY_S)
        for file in files():
            rotate(file)


def tail(file: Path, lines: int) -> list[str]:
    """The last lines, from at most the last 64 KiB; none if there is no such file."""
    try:
        with file.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL_BYTES))
            return log.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []
