"""Which pool a host has: its cluster's protocol decides, and whether TLS names the host that a request is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesh.proxy.http2_pool import Http2Pool
from mesh.proxy.named_pools import NamedPools
from mesh.proxy.pool import Pool
from mesh.proxy.upstream_config import Protocols

if TYPE_CHECKING:
    from mesh.proxy.cluster import Cluster, Host
    from mesh.proxy.connection_pool import ConnectionPool
    from mesh.proxy.transport_socket import ServerName

HostPool = Pool | Http2Pool | NamedPools


def make_pool(cluster: Cluster, host: Host) -> HostPool:
    """What `host` is asked for connections."""
    auto = cluster.config.http.auto_name
    if auto is None or host.tls is None:
        return _pool(cluster, host)

    def named(name: ServerName) -> ConnectionPool[Any]:
        pool = _pool(cluster, host)
        pool.server_name = name
        return pool

    return NamedPools(auto, named)


def _pool(cluster: Cluster, host: Host) -> Pool | Http2Pool:
    """A pool of the cluster's protocol."""
    protocols = cluster.config.http.protocols
    if protocols is Protocols.HTTP1:
        return Pool(cluster, host)
    return Http2Pool(cluster, host)
