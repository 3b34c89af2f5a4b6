"""The first process of a pid namespace: passes signals on, reaps orphans, and ends as its child does.

Written for forked copies of a bigger process, so it uses blocked signals and `sigwait`, never handlers.
"""

import os
import signal
import struct

_NOT_PASSED_ON = {signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE}
_OURS = set(signal.Signals) - _NOT_PASSED_ON - {signal.SIGTTOU, signal.SIGTTIN, signal.SIGTSTP, signal.SIGCONT}
_STATUS = struct.Struct("i")


def run_as_init(child: int, report: int | None = None) -> None:
    """Does not return. Ends when `child` has, with its exit code; `report` is a pipe that is told its whole status,
    because the first process of a namespace cannot die by a signal of its own."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        while (ended := _reap())[0]:
            if ended[0] == child:
                if report is not None:
                    os.write(report, _STATUS.pack(ended[1]))
                code = os.waitstatus_to_exitcode(ended[1])
                os._exit(code if code >= 0 else 128 - code)
        number = signal.sigwait(_OURS | {signal.SIGCHLD})
        if number != signal.SIGCHLD:
            os.kill(child, number)


def run_as_shim(child: int, report: int) -> None:
    """Does not return. Stands for `child` outside of its pid namespace, and ends as `report` says that it ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            told = os.read(report, _STATUS.size)
            exit_as(_STATUS.unpack(told)[0] if len(told) == _STATUS.size else status)
        number = signal.sigwait(_OURS | {signal.SIGCHLD})
        if number != signal.SIGCHLD:
            os.kill(child, number)


def exit_as(status: int) -> None:
    """Ends this process as the one with this wait status ended."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        number = -code
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(code if code >= 0 else 128 - code)


def _reap() -> tuple[int, int]:
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return 0, 0
