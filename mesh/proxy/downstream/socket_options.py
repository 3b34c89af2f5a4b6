"""What a listener sets on its sockets, and when (Envoy's `SocketOption`)."""

from __future__ import annotations

import socket
from dataclasses import dataclass

Option = tuple[int, int, int | bytes]  # level, name, value
BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """Options by the state in which they are set; `backlog` is tcp_backlog_size."""

    before_bind: tuple[Option, ...] = ()
    bound: tuple[Option, ...] = ()
    listening: tuple[Option, ...] = ()
    backlog: int = BACKLOG


def listening_socket(ip: str, port: int, options: SocketOptions, *, reuse_port: bool) -> socket.socket:
    """Bound and listening, not blocking. Raises OSError, and then nothing is left open."""
    bound = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setblocking(False)
        _set(bound, options.before_bind)
        bound.bind((ip, port))
        _set(bound, options.bound)
        bound.listen(options.backlog)
        _set(bound, options.listening)
    except OSError:
        bound.close()
        raise
    return bound


def _set(target: socket.socket, options: tuple[Option, ...]) -> None:
    for level, name, value in options:
        target.setsockopt(level, name, value)
