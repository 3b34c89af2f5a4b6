"""Ends a child process when its parent dies, however the parent dies."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent(sig: signal.Signals = signal.SIGKILL) -> Callable[[], None] | None:
    """A `preexec_fn` that asks the kernel to send `sig` to the child when the calling process dies (prctl(2)).

    None where there is no such call; there the reaper alone ends what is left. The library is looked up here, in the
    parent, because a child between fork and exec must not import or take locks.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
        if os.getppid() != parent:  # it died before the call: no signal will come
            os._exit(1)

    return ask_kernel
