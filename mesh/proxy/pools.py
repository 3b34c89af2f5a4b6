"""Which pool a host has: its cluster's protocol decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesh.proxy.http2_pool import Http2Pool
from mesh.proxy.pool import Pool
from mesh.proxy.upstream_config import Protocols

if TYPE_CHECKING:
    from mesh.proxy.cluster import Cluster, Host
    from mesh.proxy.connection_pool import ConnectionPool


def make_pool(cluster: Cluster, host: Host) -> ConnectionPool[Any]:
    """A pool of the cluster's protocol."""
    protocols = cluster.config.http.protocols
    if protocols is Protocols.HTTP1:
        return Pool(cluster, host)
    return Http2Pool(cluster, host)
