"""Whether a lab can be made here, found out by making a very small one."""

import os
import signal

from mesh.platforms.base import PlatformError
from mesh.platforms.netns import linux
from mesh.platforms.netns.lab import enter_namespaces
from mesh.platforms.netns.network import RESTORE, run_tool, tool

_RULE = "*nat\n-A OUTPUT -p tcp -m mark --mark 1337 -j RETURN\n-A OUTPUT -p tcp -j REDIRECT --to-ports 15001\nCOMMIT\n"
_PACKAGES = {"ip": "iproute2", "iptables-restore": "iptables"}
_MOST = 1000


def why_not() -> str:
    """What is missing for the `netns` platform, in words; nothing when it works. Call it before there are threads.

    A child enters namespaces as a lab's parent does, and its child sets a rule there as in a pod's.
    """
    for command, package in _PACKAGES.items():
        if tool(command) is None:
            return f"there is no command `{command}` (Debian's package {package})"
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        _try_and_exit(write_end)
    os.close(write_end)
    with open(read_end, encoding="utf-8", errors="replace") as report:
        said = report.read(_MOST)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return said if said or code == 0 else f"the attempt to make namespaces ended with code {code}"


def _try_and_exit(report: int) -> None:
    signal.alarm(10)  # whatever hangs in there must not hang us
    try:
        try:
            enter_namespaces()
        except OSError as error:
            raise PlatformError(f"the kernel, or this container, grants no namespaces ({error})") from error
        first = os.fork()
        if first == 0:
            _try_inside(report)
        os.waitpid(first, 0)
        os._exit(0)
    except PlatformError as error:
        os.write(report, str(error).encode())
    finally:
        os._exit(1)


def _try_inside(report: int) -> None:
    try:
        linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        run_tool(RESTORE, _RULE)
        os._exit(0)
    except (PlatformError, OSError) as error:
        os.write(report, str(error).encode()[:_MOST])
    finally:
        os._exit(1)
