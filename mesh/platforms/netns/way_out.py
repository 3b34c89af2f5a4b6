"""The way out: ports of this host's loopback that pods may reach, at an address of the mesh's network.

The address is a place of its own beside the pods, where nothing listens but those ports. So sidecars capture what goes
there as what goes to any address outside of the mesh, and faults of the network fall on it too.
"""

import functools
import socket
from collections.abc import Awaitable, Callable, Mapping

from mesh.platforms.netns.forwards import Forwards
from mesh.platforms.process.container import Spawn

HOST_NAME = "host.meshdrill.internal"
"""The address' name, after Docker's host.docker.internal."""

MOST_CONNECTIONS = 256
"""Open at once, over all ports; others wait to be accepted. Each takes two descriptors of this process."""

Connect = Callable[[int], Awaitable[socket.socket]]


def open_way_out(listening: Mapping[int, socket.socket], connect: Connect, spawn: Spawn) -> Forwards:
    """What comes to the socket of a port is joined to what `connect` connects to for that port."""
    way_out = Forwards(_Opened(listening), spawn, most=MOST_CONNECTIONS)
    for port, sock in listening.items():
        address, _ = sock.getsockname()
        way_out.lead(address, port, functools.partial(connect, port))
    return way_out


class _Opened:
    """Sockets that listen already."""

    def __init__(self, listening: Mapping[int, socket.socket]) -> None:
        self._listening = listening

    def listen(self, address: str, port: int) -> socket.socket:
        return self._listening[port]
