"""Where a container sees its volumes: mount points, made where the host has none, without touching the host.

A folder that lacks one is covered by a folder in memory in which all that it holds is bound again, links made anew. For
`/` that is a new root, and the old one goes. Everything here runs between fork and exec, in the container's namespaces.
"""

import os
from collections.abc import Iterable

from mesh.platforms.netns import linux

_NEW_ROOT = "/dev/.root"
_TMPFS = linux.MS_NOSUID | linux.MS_NODEV


class MountPoints:
    """`free`: folders in which anything may be made, as they are the container's own, or its to write."""

    def __init__(self, free: Iterable[str]) -> None:
        self._free = [os.path.realpath(folder) for folder in free]

    def make(self, path: str, *, is_file: bool) -> str:
        """Where the volume is to be mounted: the path without links. Raises OSError."""
        target = os.path.realpath(path)
        if os.path.exists(target):
            return target
        above = os.path.dirname(target)
        while not os.path.exists(above):
            above = os.path.dirname(above)
        if not self._is_free(above):
            _make_own(above)
            self._free.append(above)
        os.makedirs(os.path.dirname(target) if is_file else target, exist_ok=True)
        if is_file:
            make_file(target)
        return target

    def _is_free(self, folder: str) -> bool:
        # What is bound into a folder in memory is the host's again.
        free = max((free for free in self._free if _is_within(folder, free)), key=len, default="")
        return bool(free) and os.stat(folder).st_dev == os.stat(free).st_dev


def _is_within(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder


def _make_own(folder: str) -> None:
    base = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with os.scandir(folder) as found:
        entries = [(entry.name, entry.is_symlink(), entry.is_dir(follow_symlinks=False)) for entry in found]
    entries.sort(key=lambda entry: entry[0] != "dev")  # first what holds the new root, which is to be empty in there
    top = folder
    if folder == "/":
        top = _NEW_ROOT
        os.mkdir(top)
    mode = os.stat(folder).st_mode & 0o7777
    linux.mount("tmpfs", top, "tmpfs", _TMPFS, f"mode={mode:o},size=1m")
    for name, is_link, is_folder in entries:
        source, target = f"/proc/self/fd/{base}/{name}", os.path.join(top, name)
        if is_link:
            os.symlink(os.readlink(source), target)
            continue
        if is_folder:
            os.mkdir(target)
        else:
            make_file(target)
        linux.bind(source, target)
    os.close(base)
    if folder == "/":
        linux.change_root(top)
        linux.unmount(_NEW_ROOT)
        os.rmdir(_NEW_ROOT)


def make_file(path: str) -> None:
    """An empty one, to bind another over it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
