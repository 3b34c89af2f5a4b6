"""What a network filter is, other than the last one of its chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mesh.proxy.downstream.connection_info import ConnectionInfo
    from mesh.proxy.tls.connection import Peer


class NotAdmitted(Exception):
    """The connection is to be closed. `str()` is what the log says of it (CONNECTION_TERMINATION_DETAILS), if any."""


class NetworkFilter(Protocol):
    """One filter of a chain's configuration, shared by the chain's connections."""

    def admit(self, info: ConnectionInfo, peer: Peer | None) -> None:
        """A connection is ready to be served, its TLS handshake done; `peer` is who it proved to be, None without TLS.
        Raises NotAdmitted.
        """

    def released(self) -> None:
        """A connection that was admitted is over."""


def admit(filters: Sequence[NetworkFilter], info: ConnectionInfo, peer: Peer | None) -> None:
    """Ask each in turn. Raises NotAdmitted, and then those that had admitted the connection have released it."""
    for index, each in enumerate(filters):
        try:
            each.admit(info, peer)
        except NotAdmitted:
            for earlier in filters[:index]:
                earlier.released()
            raise
