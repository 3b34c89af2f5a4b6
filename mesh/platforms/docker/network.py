"""The mesh's own bridge network, and the addresses of its pods and of other containers that join it."""

import ipaddress
from typing import Any

from mesh.platforms.base import PlatformError
from mesh.platforms.docker.engine import Engine, EngineError
from mesh.platforms.docker.ownership import Ownership

_RESERVED = 16
_OTHERS_PREFIX = 28
_ATTEMPTS = 8


class Addresses:
    """Addresses of one subnet: the first is the host's, the second the control plane's, the third that of the way out;
    pods' come after the 16th.

    What is between is the engine's to give to containers that are not the mesh's. Pods' go round, so that one just
    given back is not taken again at once.
    """

    def __init__(self, subnet: str) -> None:
        self._network = ipaddress.IPv4Network(subnet)
        self._free = max(0, self._network.num_addresses - _RESERVED - 1)
        self._next = 0
        self._in_use: set[str] = set()

    @property
    def gateway(self) -> str:
        return str(self._network[1])

    @property
    def control(self) -> str:
        return str(self._network[2])

    @property
    def outside(self) -> str:
        return str(self._network[3])

    @property
    def others(self) -> str:
        """The block that the engine itself may give addresses of."""
        return f"{self._network.network_address}/{_OTHERS_PREFIX}"

    def take(self) -> str:
        """Raises PlatformError when all are taken."""
        for _ in range(self._free):
            address = str(self._network[_RESERVED + self._next])
            self._next = (self._next + 1) % self._free
            if address not in self._in_use:
                self._in_use.add(address)
                return address
        raise PlatformError(f"all addresses of the network {self._network} are in use")

    def give_back(self, address: str) -> None:
        self._in_use.discard(address)


class Network:
    """`internal`: nothing beyond the mesh can be reached, as far as the engine's rules hold."""

    def __init__(self, engine: Engine, own: Ownership, *, internal: bool) -> None:
        """Raises PlatformError."""
        self.name = own.name()
        self._engine = engine
        self._own = own
        self._internal = internal
        subnet = self._create()
        self.addresses = Addresses(subnet)

    def _create(self) -> str:
        """Twice: the engine knows which subnet is free, but hands out fixed addresses only of one that it was told."""
        for _ in range(_ATTEMPTS):
            probe = self._made(None)
            subnet = self._engine.do(self._engine.api.inspect_network, probe)["IPAM"]["Config"][0]["Subnet"]
            self._engine.do(self._engine.api.remove_network, probe)
            try:
                self._made(subnet)
            except EngineError as error:
                if "overlap" not in str(error):
                    raise
            else:
                return str(subnet)
        raise PlatformError("the Docker engine gave every subnet to somebody else meanwhile")

    def _made(self, subnet: str | None) -> str:
        ipam: dict[str, Any] | None = None
        if subnet is not None:
            addresses = Addresses(subnet)
            pool = {"Subnet": subnet, "IPRange": addresses.others, "Gateway": addresses.gateway}
            ipam = {"Driver": "default", "Config": [pool]}
        made = self._engine.do(
            self._engine.api.create_network,
            self.name,
            driver="bridge",
            ipam=ipam,
            internal=self._internal,
            check_duplicate=True,
            labels=self._own.labels(),
        )
        return str(made["Id"])
