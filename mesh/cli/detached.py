"""A mesh in the background: the same command in a session of its own, watched until it is ready."""

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

READY = b"http://"
"""The last line of a mesh that came up is its address."""
_NOT_UP = 1


def run_detached(arguments: Sequence[str], state: Path) -> int:
    """Shows the background process's output until it lets go of it, which it does when the mesh is ready.

    Returns its exit code if it ended instead, and 1 if that was on request. Ctrl-C ends it.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "mesh.cli.main", "up", "--background", "--state", str(state), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return _relayed(process)
    except BaseException:
        process.terminate()
        with contextlib.suppress(KeyboardInterrupt):  # an impatient second Ctrl-C changes nothing
            process.wait()
        raise


def _relayed(process: "subprocess.Popen[bytes]") -> int:
    assert process.stdout is not None
    line = b""
    for line in process.stdout:
        sys.stdout.write(line.decode(errors="replace"))
        sys.stdout.flush()
    if line.startswith(READY):
        return 0
    return process.wait() or _NOT_UP
