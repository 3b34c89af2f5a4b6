"""Which pool a host has: its cluster's protocol decides, and whether TLS names the host that a request is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mesh.proxy.upstream.http1_pool import Pool
from mesh.proxy.upstream.http2_pool import Http2Pool
from mesh.proxy.upstream.http_options import Protocols
from mesh.proxy.upstream.named_pools import NamedPools
from mesh.proxy.upstream.negotiated_pool import NegotiatedPool
from mesh.proxy.upstream.paired_pools import PairedPools

if TYPE_CHECKING:
    from mesh.proxy.tls.transport_socket import ServerName
    from mesh.proxy.upstream.cluster import Cluster
    from mesh.proxy.upstream.host import Host

_AnyPool = Pool | Http2Pool | PairedPools | NegotiatedPool
HostPool = _AnyPool | NamedPools


def make_pool(cluster: Cluster, host: Host) -> HostPool:
    """What `host` is asked for connections."""
    auto = cluster.config.http.auto_name
    if auto is None or host.tls is None:
        return _pool(cluster, host)

    def named(name: ServerName) -> _AnyPool:
        pool = _pool(cluster, host)
        pool.rename(name)
        return pool

    return NamedPools(auto, named)


def _pool(cluster: Cluster, host: Host) -> _AnyPool:
    """A pool of the cluster's protocol."""
    return _POOLS[cluster.config.http.protocols](cluster, host)


_POOLS: dict[Protocols, Callable[[Cluster, Host], _AnyPool]] = {
    Protocols.HTTP1: Pool,
    Protocols.HTTP2: Http2Pool,
    Protocols.DOWNSTREAM: PairedPools,
    Protocols.NEGOTIATED: NegotiatedPool,
}
