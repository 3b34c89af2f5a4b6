"""Connections to one host by the protocol that a request came by (Envoy's `use_downstream_protocol_config`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.proxy.upstream.http1_pool import Pool
from mesh.proxy.upstream.http2_pool import Http2Pool

if TYPE_CHECKING:
    from mesh.proxy.http.codec import Requester
    from mesh.proxy.tls.transport_socket import ServerName
    from mesh.proxy.upstream.cluster import Cluster
    from mesh.proxy.upstream.host import Host


class PairedPools:
    """A pool of each protocol."""

    __slots__ = ("_http1", "_http2")

    def __init__(self, cluster: Cluster, host: Host) -> None:
        self._http1 = Pool(cluster, host)
        self._http2 = Http2Pool(cluster, host)

    def request(self, caller: Requester) -> None:
        """Give the caller a stream, now or later (`upstream_ready`). Raises Overflow."""
        pool: Pool | Http2Pool = self._http2 if caller.client_protocol == "HTTP/2" else self._http1
        pool.request(caller)

    def cancel(self, caller: Requester) -> None:
        self._http1.cancel(caller)
        self._http2.cancel(caller)

    def close(self) -> None:
        self._http1.close()
        self._http2.close()

    def rename(self, name: ServerName) -> None:
        self._http1.rename(name)
        self._http2.rename(name)

    @property
    def pending(self) -> int:
        return self._http1.pending + self._http2.pending

    @property
    def connections(self) -> int:
        return self._http1.connections + self._http2.connections
