"""What a case asks of the machine, and whether it has that."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from harness.case import CaseError

_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h


def lacking(need: str) -> str:
    """Why this machine cannot play a case with that need; empty if it can."""
    if need and need not in _CHECKS:
        raise CaseError(f"no machine is known to have {need!r}; needs may be {sorted(_CHECKS)}")
    return _CHECKS[need]() if need else ""


def _untracked() -> str:
    """Where netfilter follows loopback connections, as once Docker has its rules, it tells of each where it went."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        accepted, _ = server.accept()
        with accepted:
            try:
                accepted.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
            except OSError:
                return ""
    return "netfilter tracks loopback connections here, and its word on destinations stands over a PROXY header's"


_CHECKS: Mapping[str, Callable[[], str]] = {"untracked": _untracked}
