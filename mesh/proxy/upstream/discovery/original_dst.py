"""ORIGINAL_DST: a request or connection goes where its client wanted to go (Istio's PassthroughCluster).

A destination is an address as one number, so that it can take the way of a hash key to the balancer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh.proxy.downstream.connection_info import Address

if TYPE_CHECKING:
    from mesh.proxy.http1.head import Head
    from mesh.proxy.upstream.balancing.balancer import Pickable
    from mesh.proxy.upstream.host import Host

MOST_HOSTS = 16 * 1024  # a client names its destination: what it can make us remember is bounded
_V6 = 1 << 144
_LONGEST_PORT = 5


@dataclass(frozen=True, slots=True)
class OriginalDstConfig:
    """`OriginalDstLbConfig`. `header` (lower case) is None where no header is asked; `port` 0 keeps the port."""

    header: bytes | None = None
    port: int = 0
    cleanup_interval: float = 5.0


class OriginalDst:
    """The balancer of such a cluster, which makes hosts as they are asked for. `make` adds one to the cluster."""

    __slots__ = ("_config", "_hosts", "_invalid", "_make", "_used")

    def __init__(
        self, config: OriginalDstConfig, make: Callable[[str, int], Host], invalid: Callable[[], None]
    ) -> None:
        self._config = config
        self._make = make
        self._invalid = invalid
        self._hosts: dict[int, Host] = {}
        self._used: set[int] = set()

    def key(self, head: Head | None, restored: Address | None) -> int | None:
        """The destination of a request: its header's, or else its connection's. None if nobody knows."""
        if self._config.header is not None and head is not None:
            value = head.get(self._config.header)
            if value is not None:
                try:
                    return number_of(value.decode("latin-1"))
                except ValueError:
                    self._invalid()
        return number_of_address(*restored) if restored is not None else None

    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        """The host at the destination; there was none if nobody said where to."""
        if key is None:
            return None
        if self._config.port:
            key = key >> 16 << 16 | self._config.port
        host = self._hosts.get(key)
        if host is None:
            if len(self._hosts) >= MOST_HOSTS:
                return None
            host = self._hosts[key] = self._make(*address_of(key))
        self._used.add(key)
        return host

    def unused(self) -> list[Host]:
        """The hosts that nobody wanted since the last call and nothing is under way to; they are forgotten."""
        gone = [
            key for key, host in self._hosts.items() if key not in self._used and not host.active and not host.cx_active
        ]
        self._used.clear()
        return [self._hosts.pop(key) for key in gone]


def number_of(text: str) -> int:
    """`ip:port` as a number. Raises ValueError for anything else."""
    ip, colon, port = text.rpartition(":")
    is_six = ip[:1] == "[" and ip[-1:] == "]"
    if not colon or not port.isdecimal() or len(port) > _LONGEST_PORT or (":" in ip) != is_six or "%" in ip:
        raise ValueError(text)
    if int(port) >= 1 << 16:
        raise ValueError(text)
    return number_of_address(ip[1:-1] if is_six else ip, int(port))


def number_of_address(ip: str, port: int) -> int:
    """Raises ValueError where `ip` is none."""
    address = ipaddress.ip_address(ip)
    return (_V6 if address.version == 6 else 0) | int(address) << 16 | port


def address_of(number: int) -> tuple[str, int]:
    """The address that was made a number."""
    port = number & 0xFFFF
    if number >= _V6:
        return str(ipaddress.IPv6Address((number & (_V6 - 1)) >> 16)), port
    return str(ipaddress.IPv4Address(number >> 16)), port
