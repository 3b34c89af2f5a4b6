"""Signals as a queue: the agent is one thread that waits for the next signal or for a time."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from signal import Signals

WATCHED = (Signals.SIGTERM, Signals.SIGINT, Signals.SIGHUP, Signals.SIGCHLD)


class SignalQueue:
    """Made by `signal_queue`."""

    def __init__(self, read_fd: int) -> None:
        self._read_fd = read_fd

    def wait(self, timeout_s: float | None) -> set[Signals]:
        """The signals that came, after at most `timeout_s` seconds; empty when none did."""
        ready, _, _ = select.select([self._read_fd], [], [], timeout_s)
        return {Signals(number) for number in os.read(self._read_fd, 512)} if ready else set()


@contextmanager
def signal_queue() -> Iterator[SignalQueue]:
    """Takes over the watched signals of this process."""
    read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
    os.set_blocking(write_fd, False)
    for sig in WATCHED:
        signal.signal(sig, _ignore)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    try:
        yield SignalQueue(read_fd)
    finally:
        release()
        os.close(read_fd)
        os.close(write_fd)


def release() -> None:
    """Puts the signals back to their defaults; what a child must do before anything else."""
    signal.set_wakeup_fd(-1)
    for sig in WATCHED:
        signal.signal(sig, signal.SIG_DFL)


def _ignore(_number: int, _frame: object) -> None:
    """A handler has to exist for the wake-up descriptor to be written."""
