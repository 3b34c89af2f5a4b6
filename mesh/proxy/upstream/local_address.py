"""This machine's own address, as Envoy names it in the requests that it makes itself."""

from __future__ import annotations

import fcntl
import socket
import struct
from functools import cache

_SIOCGIFADDR = 0x8915


@cache
def local_ip() -> str:
    """The first IPv4 address that is not loopback, in the order of interfaces; `127.0.0.1` where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asked.fileno(), _SIOCGIFADDR, struct.pack("256s", name[:15].encode()))
            except OSError:
                continue  # an interface without IPv4 address, or a system that does not know the question
            address = socket.inet_ntoa(answer[20:24])
            if not address.startswith("127."):
                return address
    return "127.0.0.1"
