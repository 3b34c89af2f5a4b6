"""`envoy.filters.network.sni_cluster`: the server name that the client asks for is the cluster of the tcp_proxy."""

from __future__ import annotations

from mesh.proxy.downstream.connection_info import ConnectionInfo
from mesh.proxy.tls.connection import Peer


class SniCluster:
    def admit(self, info: ConnectionInfo, peer: Peer | None) -> None:
        info.cluster_name = info.server_name

    def released(self) -> None:
        """Nothing was kept."""
