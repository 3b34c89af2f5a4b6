"""Addresses of one mesh: a /16 of 127.0.0.0/8 held by a file lock, and the pods' addresses within it."""

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Set
from pathlib import Path

from mesh.platforms.base import PlatformError

_FIRST, _LAST = 64, 126
_CONTROL_PORTS = (15012, 15014)


class AddressBlock:
    """`127.N.0.0/16`, ours while the object is open. `.1` is the control plane, pods have `127.N.1.1` and up."""

    def __init__(self, octet: int, lock_fd: int) -> None:
        self._octet = octet
        self._lock_fd = lock_fd
        self._in_use: set[str] = set()
        self._next = 0

    def __repr__(self) -> str:
        return f"AddressBlock(127.{self._octet}.0.0/16, {len(self._in_use)} pods)"

    @property
    def control(self) -> str:
        return f"127.{self._octet}.0.1"

    def take(self) -> str:
        """A pod address not in use. Addresses go round, so that one just given back is not taken again at once."""
        for _ in range(254 * 254):
            third, fourth = divmod(self._next, 254)
            self._next = (self._next + 1) % (254 * 254)
            address = f"127.{self._octet}.{third + 1}.{fourth + 1}"
            if address not in self._in_use:
                self._in_use.add(address)
                return address
        raise PlatformError(f"all pod addresses of 127.{self._octet}.0.0/16 are in use")

    def give_back(self, address: str) -> None:
        self._in_use.discard(address)

    def close(self) -> None:
        os.close(self._lock_fd)


def take_block(lock_folder: Path | None = None) -> AddressBlock:
    """Locks a free block. The lock ends with this process, so a killed mesh leaves none taken.

    Raises PlatformError when all are taken.
    """
    folder = lock_folder or Path(tempfile.gettempdir()) / f"meshdrill-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    octets = list(range(_FIRST, _LAST + 1))
    random.shuffle(octets)
    for octet in octets:
        fd = os.open(folder / f"127.{octet}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _locked(fd) and _is_quiet(f"127.{octet}.0.1"):
            return AddressBlock(octet, fd)
        os.close(fd)
    raise PlatformError(f"no free address block 127.{_FIRST}.0.0 to 127.{_LAST}.0.0: too many meshes are running")


def free_port(address: str, taken: Set[int]) -> int:
    """An ephemeral TCP port of `address` that nobody listens on and that is not in `taken`."""
    while True:
        with socket.socket() as probe:
            probe.bind((address, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_quiet(address: str) -> bool:
    """Whether nobody, for example another user's mesh, listens on the control plane's ports there."""
    for port in _CONTROL_PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True
