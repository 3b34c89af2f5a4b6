"""A mesh in a process of its own that cannot outlive this one: for what needs a mesh only while it runs."""

import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from mesh.cli.errors import Failure

_END_S = 20.0
_LET_GO_S = 0.5  # it ends within this time of closing its output, or it has let go of it


class TiedMesh:
    """`meshdrill up` with further `options`. It ends when its stdin does, and its state folder with it: however this
    process ends, neither is left. Signals of the terminal do not reach it: the mesh stays until `end`."""

    def __init__(self, state: Path, options: Sequence[str], *, stderr: int | None = None) -> None:
        """`stderr` as for a Popen; by default this process's."""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mesh.cli.main", "up", "--background", "--until-stdin-ends"),
                *("--state", str(state), *options),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )

    def await_ready(self, hear: Callable[[str], None]) -> None:
        """Hands each line that the mesh says to `hear` until it is ready. Raises Failure when it did not come up."""
        for line in _open(self._process.stdout):
            hear(line)
        # It lets go of its output when it is ready, or when it could not come up.
        try:
            code = self._process.wait(_LET_GO_S)
        except subprocess.TimeoutExpired:
            return
        raise Failure(f"the mesh did not come up (exit code {code})")

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def end(self) -> int:
        """Takes the mesh down; the exit code. One that does not end in time is killed, and its reaper does the rest."""
        _open(self._process.stdin).close()
        try:
            return self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            _open(self._process.stdout).close()


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
