"""The few system calls that Python 3.11 does not offer: namespaces, mounts, capabilities. Errors are OSError.

Safe between fork and exec: everything is looked up at import, and nothing here takes a lock.
"""

import ctypes
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x0002_0000, 0x0400_0000, 0x0800_0000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x1000_0000, 0x2000_0000, 0x4000_0000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x4_0000

CAP_NET_ADMIN, CAP_NET_RAW = 12, 13

_PR_SET_PDEATHSIG, _PR_CAPBSET_READ, _PR_CAPBSET_DROP = 1, 23, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_SYS_MOUNT_SETATTR = 442  # the same on every architecture that has it
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_ATTR_RDONLY = 0x1
_MNT_DETACH = 0x2

_libc = ctypes.CDLL(None, use_errno=True)
_unshare, _setns, _mount, _umount2, _pivot_root, _prctl, _syscall, _sethostname = (
    getattr(_libc, name)
    for name in ("unshare", "setns", "mount", "umount2", "pivot_root", "prctl", "syscall", "sethostname")
)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def unshare(flags: int) -> None:
    _check(_unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    _check(_setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    result = _mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode() if data else None
    )
    _check(result, f"mount of {kind or source} on {target}")


def bind(source: str, target: str) -> None:
    """`source`, and what is mounted below it, seen at `target` too."""
    mount(source, target, "", MS_BIND | MS_REC)


def change_root(folder: str) -> None:
    """This mount namespace's root becomes `folder`, where something must be mounted. What was the root goes."""
    os.chdir(folder)
    _check(_pivot_root(b".", b"."), f"pivot_root to {folder}")
    unmount(".")  # the old root, which the kernel leaves above the new one
    os.chdir("/")


def unmount(path: str) -> None:
    """With all that is mounted below it."""
    _check(_umount2(path.encode(), _MNT_DETACH), f"umount of {path}")


def set_read_only(path: str, read_only: bool, *, recursive: bool) -> None:
    """Of the mount at `path`, with `recursive` of all below it. What is set by somebody above us stays set."""
    wanted = _MOUNT_ATTR_RDONLY
    attributes = _MountAttr(attr_set=wanted) if read_only else _MountAttr(attr_clr=wanted)
    result = _syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        path.encode(),
        ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    _check(result, f"mount_setattr of {path}")


def die_with(parent: int, sig: int = 9) -> None:
    """The kernel sends `sig` when the parent ends. `parent` is its pid, or 0 if that is in another pid namespace."""
    _check(_prctl(_PR_SET_PDEATHSIG, sig, 0, 0, 0), "prctl")
    if os.getppid() != parent:  # it ended before the call: no signal will come
        os._exit(1)


def keep_capabilities(kept: Iterable[int]) -> None:
    """What the next program has at most, and none of its children ever more. Takes effect with exec."""
    wanted = set(kept)
    _check(_prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl")
    capability = 0
    while _prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        if capability not in wanted:
            _check(_prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl")
        capability += 1
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def set_hostname(name: str) -> None:
    encoded = name.encode()[:64]
    _check(_sethostname(encoded, ctypes.c_size_t(len(encoded))), "sethostname")


def open_namespace(kind: str, pid: int | str = "thread-self") -> int:
    """A descriptor of a namespace (`net`, `mnt`, `pid`, `uts`, `ipc`), which lives as long as somebody holds one."""
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def inside_network(fd: int) -> Iterator[None]:
    """This thread is in network namespace `fd` meanwhile. A socket stays where it was made. MUST NOT be held over an
    `await`: whatever the thread does then would happen in there."""
    back = open_namespace("net")
    try:
        setns(fd, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(back, CLONE_NEWNET)
    finally:
        os.close(back)


def new_network() -> int:
    """A fresh network namespace, held by the descriptor alone."""
    back = open_namespace("net")
    try:
        unshare(CLONE_NEWNET)
        try:
            return open_namespace("net")
        finally:
            setns(back, CLONE_NEWNET)
    finally:
        os.close(back)


def set_sysctl(name: str, value: str) -> None:
    """In the network namespace of this thread."""
    Path("/proc/sys", *name.split("/")).write_text(value)


def _check(result: int, what: str) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
