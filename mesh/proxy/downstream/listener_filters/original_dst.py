"""`envoy.filters.listener.original_dst`: where a redirected connection was meant to go (Linux netfilter)."""

from __future__ import annotations

import socket
import struct

from mesh.proxy.downstream.connection_info import ConnectionInfo
from mesh.proxy.downstream.listener_filters.listener_filter import Spares

_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h, and IP6T_SO_ORIGINAL_DST
_V4, _V6 = struct.Struct("!2xH4s"), struct.Struct("!2xHI16s")


class OriginalDst:
    needs_data = False
    spares: Spares | None = None

    def accepted(self, info: ConnectionInfo, connected: socket.socket) -> None:
        """What netfilter says stands over what a PROXY header told: it answers for every connection that it tracks,
        redirected or not. As in Envoy it is asked in the family of the address known by then, so that a destination
        of IPv6 that was told over IPv4 stays.
        """
        family = socket.AF_INET6 if ":" in info.local[0] else socket.AF_INET
        level, form = (socket.IPPROTO_IPV6, _V6) if family == socket.AF_INET6 else (socket.IPPROTO_IP, _V4)
        try:
            found = connected.getsockopt(level, _SO_ORIGINAL_DST, 28)
        except OSError:
            return  # no netfilter, no such connection in its table, or a socket of the other family
        port, *_, ip = form.unpack_from(found)
        info.restore_local((socket.inet_ntop(family, ip), port))

    def inspect(self, data: bytes, info: ConnectionInfo) -> int | None:
        return 0
