"""The lab: one set of namespaces for a whole mesh, and the parent that stays outside of it.

    meshdrill up          the parent: in the host's namespaces, opens ports there, hands them in
    └── keeper            entered the user namespace; waits, so that the first process has a parent outside
        └── first         pid 1 of the lab: reaps orphans
            └── session   the node, and below it the control plane and the pods

Each ends with the one above it, by a signal from the kernel, and with the first process the kernel ends every process
of the lab. With the last one go its namespaces, and with those every interface, route and rule. So nothing can be left,
whichever of them is killed, and nothing has to be undone.
"""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Collection
from pathlib import Path
from types import FrameType

from mesh.platforms.base import PlatformError
from mesh.platforms.netns import linux
from mesh.platforms.netns.host import HostPorts, serve
from mesh.platforms.netns.init import exit_as, run_as_init

_STOPPERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def enter_lab(reachable: Collection[int] = ()) -> HostPorts:
    """Like fork: returns inside the lab, where this process is the session. Outside it never returns: it serves the
    session, passes on SIGINT, SIGTERM and SIGHUP, and exits as the session does. Call it before there are threads.

    `reachable` are the ports of the host's loopback that the lab may connect to.

    Raises PlatformError outside when the kernel does not grant the namespaces.
    """
    parent_end, session_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    keeper = os.fork()
    if keeper == 0:
        parent_end.close()
        _become_session(parent, session_end)
        return HostPorts(session_end, parent, reachable)
    session_end.close()
    _serve_until_end(keeper, parent_end, reachable)
    raise AssertionError("the parent exits as the session does")


def namespaces() -> int:
    """What to unshare: a user namespace only where it takes one, as a host may forbid them to all but root."""
    wanted = linux.CLONE_NEWNET | linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS
    return wanted if os.geteuid() == 0 else wanted | linux.CLONE_NEWUSER


def enter_namespaces() -> None:
    """This process into the lab's namespaces, its children into the lab's pid namespace. Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    flags = namespaces()
    linux.unshare(flags)
    if flags & linux.CLONE_NEWUSER:
        # One id is all that an unprivileged user may map; root inside, as iptables wants capabilities after exec.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)


def _become_session(parent: int, session_end: socket.socket) -> None:
    """Returns in the session alone; the keeper and the first process end in here."""
    try:
        enter_namespaces()
        linux.die_with(parent)  # after the change of credentials, which clears it
        keeper = os.getpid()
        first = os.fork()
        if first != 0:
            _wait_outside(first, session_end)
        if keeper == os.getpid():
            os._exit(1)
        linux.die_with(0)
        linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        session = os.fork()
        if session != 0:
            session_end.close()
            _let_go_of_terminal()
            run_as_init(session)
        linux.die_with(1)
    except OSError as error:
        with contextlib.suppress(OSError):
            session_end.send(f'{{"failed": "{error.strerror}"}}'.encode())
        os._exit(1)


def _wait_outside(first: int, session_end: socket.socket) -> None:
    session_end.close()
    _let_go_of_terminal()
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    _, status = os.waitpid(first, 0)
    exit_as(status)


def _let_go_of_terminal() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def _serve_until_end(keeper: int, parent_end: socket.socket, reachable: Collection[int]) -> None:
    def pass_on(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):  # it is ending already
            parent_end.send(b'{"stop": true}')

    for number in _STOPPERS:
        signal.signal(number, pass_on)
    failure = serve(parent_end, reachable)
    _, status = os.waitpid(keeper, 0)
    if failure:
        raise PlatformError(f"the lab's namespaces cannot be made: {failure}")
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        raise PlatformError(f"the lab was ended by {signal.Signals(-code).name}")
    sys.exit(code)
