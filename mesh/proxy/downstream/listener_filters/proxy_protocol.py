"""`envoy.filters.listener.proxy_protocol`: the PROXY header, versions 1 and 2, that a load balancer puts first.

The format is HAProxy's (`doc/proxy-protocol.txt`); where that leaves a choice, Envoy's is taken.
"""

from __future__ import annotations

import ipaddress
import socket
import struct

from mesh.proxy.downstream.connection_info import Address, ConnectionInfo
from mesh.proxy.downstream.listener_filters.listener_filter import ListenerFilterFailed, Spares
from mesh.proxy.observe.downstream_counters import ProxyProtocolStats

_V1, _V2 = b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"
_V1_LONGEST = 108  # with its line end; what is longer is malformed
_V2_HEAD = 16
_LOCAL, _PROXY = 0x20, 0x21
_V4, _V6 = struct.Struct("!4s4sHH"), struct.Struct("!16s16sHH")
_FAMILIES = {b"TCP4": 4, b"TCP6": 6}
# Family and transport: Envoy takes datagrams for streams.
_INET = {
    0x11: (socket.AF_INET, _V4),
    0x12: (socket.AF_INET, _V4),
    0x21: (socket.AF_INET6, _V6),
    0x22: (socket.AF_INET6, _V6),
}


class _Malformed(ValueError):
    """It begins as a PROXY header and is none."""


class ProxyProtocol:
    """`optional` is allow_requests_without_proxy_protocol; `disallowed` are versions, 1 and 2."""

    needs_data = True
    spares: Spares | None = None

    def __init__(self, stats: ProxyProtocolStats, *, optional: bool, disallowed: frozenset[int]) -> None:
        self._stats = stats
        self._optional = optional
        self._disallowed = disallowed

    def accepted(self, info: ConnectionInfo, connected: socket.socket) -> None:
        """Nothing to be seen yet."""

    def inspect(self, data: bytes, info: ConnectionInfo) -> int | None:
        version = _version(data)
        if version is None:
            return None
        if version == 0:
            return self._without()
        if version in self._disallowed:
            self._count(version, "disallowed")
            raise ListenerFilterFailed(f"PROXY protocol version {version} is not allowed")
        read = _read_v1 if version == 1 else _read_v2
        try:
            found = read(data)
        except _Malformed as error:
            self._count(version, "error")
            raise ListenerFilterFailed(str(error)) from error
        if found is None:
            return None
        self._count(version, "found")
        size, addresses = found
        if addresses is not None:
            info.remote, local = addresses
            if local != info.local:
                info.restore_local(local)
        return size

    def _without(self) -> int:
        if not self._optional:
            self._stats.not_found_disallowed += 1
            raise ListenerFilterFailed("no PROXY header")
        self._stats.not_found_allowed += 1
        return 0

    def _count(self, version: int, what: str) -> None:
        name = f"versions__v{version}__{what}"
        setattr(self._stats, name, getattr(self._stats, name) + 1)


_Read = tuple[int, tuple[Address, Address] | None]  # the header's size; source and destination, None for "unknown"


def _version(data: bytes) -> int | None:
    """1 or 2, 0 for no PROXY header, None while that is not known."""
    for version, mark in ((2, _V2), (1, _V1)):
        if data.startswith(mark):
            return version
        if mark.startswith(data):
            return None
    return 0


def _read_v1(data: bytes) -> _Read | None:
    end = data.find(b"\r\n", 0, _V1_LONGEST)
    if end < 0:
        if len(data) >= _V1_LONGEST:
            raise _Malformed("a line that does not end")
        return None
    family, *fields = data[len(_V1) : end].split(b" ")
    if family == b"UNKNOWN":
        return end + 2, None
    if family not in _FAMILIES or len(fields) != 4:
        raise _Malformed("not a family with two addresses and two ports")
    source, destination, source_port, destination_port = fields
    version = _FAMILIES[family]
    return end + 2, (_address(source, source_port, version), _address(destination, destination_port, version))


def _address(ip: bytes, port: bytes, version: int) -> Address:
    try:
        parsed = ipaddress.ip_address(ip.decode("ascii"))
    except ValueError as error:
        raise _Malformed("not an address") from error
    if parsed.version != version or not port.isdigit() or len(port) > 5 or int(port) > 0xFFFF:
        raise _Malformed("not an address of its family, or not a port")
    return str(parsed), int(port)


def _read_v2(data: bytes) -> _Read | None:
    if len(data) < _V2_HEAD:
        return None
    command, family, length = data[12], data[13], int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise _Malformed("neither LOCAL nor PROXY of version 2")
    size = _V2_HEAD + length
    inet = _INET.get(family)
    if command == _PROXY and (inet is None or length < inet[1].size):
        raise _Malformed("no addresses of a family that we know")
    if len(data) < size:
        return None
    if command == _LOCAL or inet is None:
        return size, None
    kind, form = inet
    source, destination, source_port, destination_port = form.unpack_from(data, _V2_HEAD)
    ends = socket.inet_ntop(kind, source), socket.inet_ntop(kind, destination)
    return size, ((ends[0], source_port), (ends[1], destination_port))
