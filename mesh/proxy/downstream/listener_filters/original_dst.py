"""`envoy.filters.listener.original_dst`: where a redirected connection was meant to go (Linux netfilter)."""

from __future__ import annotations

import socket
import struct

from mesh.proxy.downstream.connection_info import ConnectionInfo

_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h, and IP6T_SO_ORIGINAL_DST
_V4, _V6 = struct.Struct("!2xH4s"), struct.Struct("!2xHI16s")


class OriginalDst:
    needs_data = False

    def accepted(self, info: ConnectionInfo, connected: socket.socket) -> None:
        """A connection that nobody redirected keeps its own address."""
        is_v6 = connected.family == socket.AF_INET6
        level, form = (socket.IPPROTO_IPV6, _V6) if is_v6 else (socket.IPPROTO_IP, _V4)
        try:
            found = connected.getsockopt(level, _SO_ORIGINAL_DST, 28)
        except OSError:
            return  # no netfilter, or no such connection in its table: not redirected
        port, *_, ip = form.unpack_from(found)
        info.restore_local((socket.inet_ntop(connected.family, ip), port))

    def inspect(self, data: bytes, info: ConnectionInfo) -> int | None:
        return 0
