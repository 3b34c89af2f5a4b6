"""The ports of the host that lead into one pod, whatever its network is."""

import functools
import socket
from collections.abc import Awaitable, Callable, Mapping

from mesh.api.pod import Pod
from mesh.platforms.base import PROXY_CONTAINER
from mesh.platforms.netns.forwards import LOOPBACK, Address, Forwards
from mesh.platforms.netns.splice import Dial

_SHOWN = (15000, 15020, 15021, 15090)
"""Ports of a proxy that the mesh's own tools ask for, from the host."""

Connect = Callable[[str, int], Awaitable[socket.socket]]
"""A connection to an address and a port. Raises OSError."""


class PodPorts:
    """Of the pod at `address`: `within` connects from inside of it, `beside` as another pod or node does."""

    def __init__(self, forwards: Forwards, address: str, *, within: Connect, beside: Connect) -> None:
        self._forwards = forwards
        self._address = address
        self._within = within
        self._beside = beside
        self._shown: dict[int, Address] = {}
        self._reached: dict[int, Address] = {}
        self._host_ports: list[tuple[Address, Dial]] = []

    def show(self, port: int) -> Address:
        """A port of the host that leads to `port` inside of the pod, past its sidecar (kubectl's port-forward)."""
        if port not in self._shown:
            self._shown[port] = self._forwards.lead(LOOPBACK, 0, functools.partial(self._connect_inside, port))
        return self._shown[port]

    def reach(self, port: int) -> Address:
        """A port of the host that leads to `port` of the pod as from another pod, through its sidecar."""
        if port not in self._reached:
            self._reached[port] = self._forwards.lead(LOOPBACK, 0, self._from_beside(port))
        return self._reached[port]

    def open_for_tools(self, pod: Pod) -> Mapping[int, Address]:
        """Where the host finds what the apps of `pod` declare and what its proxy shows, by the port in the pod."""
        found = {port: self.reach(port) for port in _declared(pod)}
        if any(container.name == PROXY_CONTAINER for container in pod.spec.containers):
            found |= {port: self.show(port) for port in _SHOWN}
        return found

    def open_host_ports(self, pod: Pod) -> None:
        """`hostPort`s lead to the pod as from another node. Raises PlatformError when one cannot be had."""
        for container in pod.spec.containers:
            for port in container.ports:
                if port.host_port:
                    dial = self._from_beside(port.container_port)
                    self._host_ports.append((self._forwards.lead(port.host_ip or LOOPBACK, port.host_port, dial), dial))

    def close(self) -> None:
        for address in (*self._shown.values(), *self._reached.values()):
            self._forwards.close(address)
        for address, dial in self._host_ports:
            self._forwards.unlead(address, dial)

    def _from_beside(self, port: int) -> Dial:
        return functools.partial(self._beside, self._address, port)

    async def _connect_inside(self, port: int) -> socket.socket:
        """To what listens on loopback or on the pod's address."""
        try:
            return await self._within(LOOPBACK, port)
        except ConnectionRefusedError:
            return await self._within(self._address, port)


def _declared(pod: Pod) -> set[int]:
    """The apps' TCP ports, which other pods may call."""
    apps = (container for container in pod.spec.containers if container.name != PROXY_CONTAINER)
    return {port.container_port for app in apps for port in app.ports if port.protocol == "TCP"}
