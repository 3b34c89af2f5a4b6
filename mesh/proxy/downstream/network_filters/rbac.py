"""`envoy.filters.network.rbac`: who may connect, by the HTTP filter's rules as far as a connection can answer them.

Decided when the connection is ready, before a byte goes on; Envoy decides at the first byte, when it has an upstream
connection already.
"""

from __future__ import annotations

from mesh.proxy.downstream.connection_info import ConnectionInfo
from mesh.proxy.downstream.network_filters.network_filter import NotAdmitted
from mesh.proxy.policy.rbac import Control, Counts, denial
from mesh.proxy.tls.connection import Peer

_NAMESPACE = "envoy.filters.network.rbac"


class Connecting:
    """A connection as the subject of rules."""

    __slots__ = ("info", "peer")

    def __init__(self, info: ConnectionInfo, peer: Peer | None) -> None:
        self.info = info
        self.peer = peer


class NetworkRbac:
    """The filter of one chain."""

    def __init__(self, control: Control, counts: Counts) -> None:
        self._control = control
        self._counts = counts

    def admit(self, info: ConnectionInfo, peer: Peer | None) -> None:
        allowed, policy, told = self._control.judge(Connecting(info, peer), self._counts)
        if told:
            info.metadata.setdefault(_NAMESPACE, {}).update(told)
        if not allowed:
            raise NotAdmitted(denial(policy))

    def released(self) -> None:
        """Nothing was held."""
