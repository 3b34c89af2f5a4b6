"""Ends what a test run leaves behind, however the run ends.

Run as a process of its own: `python orphans.py MARK`. Its stdin is a pipe whose other end only pytest holds, so it
wakes when pytest is gone, SIGKILL included, and ends every process that carries the run's mark in its environment.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

MARK = "MESHDRILL_TEST_RUN"


def marked(mark: str) -> dict[int, str]:
    """The live processes with that mark, as pid and command line. None where there is no /proc."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            # A zombie has no command line, and whoever waits for it ends it.
            if command := (folder / "cmdline").read_bytes():
                found[int(folder.name)] = command.replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue  # it ended while we looked, or is not ours
    return found


def main() -> None:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    sys.stdin.buffer.read()
    for pid in marked(sys.argv[1]):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
