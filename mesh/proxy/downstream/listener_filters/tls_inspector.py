"""`envoy.filters.listener.tls_inspector`: is it TLS, for which server name, with which protocols inside."""

from __future__ import annotations

import socket

from mesh.proxy.downstream.client_hello import read_client_hello
from mesh.proxy.downstream.connection_info import ConnectionInfo
from mesh.proxy.downstream.listener_filters.listener_filter import ListenerFilterFailed, Spares
from mesh.proxy.observe.downstream_counters import TlsInspectorStats

_HANDSHAKE = 0x16
LARGEST_HELLO = 16 * 1024  # Envoy's TLS_MAX_CLIENT_HELLO


class TlsInspector:
    """`largest` is max_client_hello_size, in bytes."""

    needs_data = True
    spares: Spares | None = None

    def __init__(self, stats: TlsInspectorStats, largest: int) -> None:
        self._stats = stats
        self._largest = largest

    def accepted(self, info: ConnectionInfo, connected: socket.socket) -> None:
        """Nothing to be seen yet."""

    def inspect(self, data: bytes, info: ConnectionInfo) -> int | None:
        stats = self._stats
        if data[0] != _HANDSHAKE:
            stats.tls_not_found += 1
            info.transport_protocol = "raw_buffer"
            return 0
        hello = read_client_hello(data)
        if hello is None:
            if len(data) > self._largest:
                stats.client_hello_too_large += 1
                raise ListenerFilterFailed("client hello too large")
            return None
        stats.tls_found += 1
        stats.sni_found += bool(hello.server_name)
        stats.sni_not_found += not hello.server_name
        stats.alpn_found += bool(hello.alpn)
        stats.alpn_not_found += not hello.alpn
        info.transport_protocol = "tls"
        info.server_name = hello.server_name.lower()
        info.application_protocols = hello.alpn
        return 0
