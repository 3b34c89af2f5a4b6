"""The ADS server of a test, on loopback with certificates of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import grpc
from cryptography.x509 import DNSName, IPAddress

from mesh.api.meta import Resource
from mesh.snapshot.options import MeshOptions
from mesh.xds.ads.server import DiscoveryServer
from xdskit.pki import Authority


@asynccontextmanager
async def served(
    authority: Authority, resources: Iterable[Resource], port: int = 0, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[DiscoveryServer, int]]:
    """The server and its port (0 picks a free one), with `resources` as version 1 of the store."""
    key, chain = authority.issue(DNSName("control"), IPAddress(ip_address(host)))
    credentials = grpc.ssl_server_credentials([(key, chain)], authority.root, require_client_auth=True)
    server = DiscoveryServer(MeshOptions())
    server.load(resources, 1)
    port = await server.start(host, port, credentials)
    try:
        yield server, port
    finally:
        await server.stop(0)
