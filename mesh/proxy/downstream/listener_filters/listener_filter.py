"""What a listener filter is."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from mesh.proxy.downstream.connection_info import ConnectionInfo

Spares = Callable[[ConnectionInfo], bool]


class ListenerFilterFailed(Exception):
    """The connection is to be closed: what it sent is not what the filter demands."""


class ListenerFilter(Protocol):
    """One filter of a listener's configuration, shared by its connections and so without state of any of them.

    `needs_data` tells whether it waits for the client's first bytes, `spares` which connections it leaves alone
    (`filter_disabled`).
    """

    needs_data: bool
    spares: Spares | None

    def accepted(self, info: ConnectionInfo, connected: socket.socket) -> None:
        """A connection is there; nothing of it has been read."""

    def inspect(self, data: bytes, info: ConnectionInfo) -> int | None:
        """Look at all that has come and was not consumed yet: how much of it is the filter's own, which nobody else
        will see; None while more is needed. Raises ListenerFilterFailed.
        """
