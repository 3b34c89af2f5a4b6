"""`envoy.filters.network.connection_limit`: so many connections at once on one chain, and not one more."""

from __future__ import annotations

from mesh.proxy.downstream.connection_info import ConnectionInfo
from mesh.proxy.downstream.network_filters.network_filter import NotAdmitted
from mesh.proxy.observe.downstream_counters import ConnectionLimitStats
from mesh.proxy.tls.connection import Peer


class ConnectionLimit:
    """Counts in one worker."""

    def __init__(self, stats: ConnectionLimitStats, most: int) -> None:
        self._stats = stats
        self._most = most
        self._active = 0

    def admit(self, info: ConnectionInfo, peer: Peer | None) -> None:
        if self._active >= self._most:
            self._stats.limited_connections += 1
            raise NotAdmitted
        self._active += 1
        self._stats.active_connections += 1

    def released(self) -> None:
        self._active -= 1
        self._stats.active_connections -= 1
