"""Children of the agent: forked ones, which do a job with imports that the agent shall not carry, and the proxy."""

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence

from mesh.agent import signals
from mesh.lifeline import die_with_parent


class ForkedJob:
    """A function in a child process. The agent has one thread, so forking it is safe."""

    def __init__(self, job: Callable[[], str]) -> None:
        bind = die_with_parent()
        read_fd, write_fd = os.pipe()
        self._result = read_fd
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read_fd)
            if bind is not None:
                bind()
            _run_and_exit(job, write_fd)
        os.close(write_fd)

    def poll(self) -> tuple[int, str] | None:
        """Exit code and what the job returned, once it has ended."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        with open(self._result, encoding="utf-8") as result:
            return os.waitstatus_to_exitcode(status), result.read()

    def kill(self) -> None:
        """Only while `poll` has not told of its end."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._result)


def start_proxy(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    """The proxy, writing into the container's log, and ending with us."""
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent())  # noqa: PLW1509 - the agent has one thread


def _run_and_exit(job: Callable[[], str], write_fd: int) -> None:
    code = 1
    try:
        signals.release()
        os.write(write_fd, job().encode())
        code = 0
    except Exception as error:
        if _is_expected(error):
            sys.stderr.write(f"{error}\n")
        else:
            traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)  # the agent's own exit handlers are not this child's to run


def _is_expected(error: Exception) -> bool:
    return any(base.__name__ == "MeshError" for base in type(error).__mro__) or isinstance(error, OSError)
