"""The mesh's network in the Docker engine, for containers that are not the mesh's."""

from collections.abc import Mapping

from docker.models.containers import Container
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network


class MeshNetwork(Network):
    """For `DockerContainer.with_network`, or `connect`. Making and removing it is the mesh's business: what is still in
    it when the mesh ends is let go, and runs on."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self._network = self._docker.client.networks.get(name)

    def create(self) -> "MeshNetwork":
        """It is there already."""
        return self

    def remove(self) -> None:
        """It stays until the mesh ends."""

    @property
    def labels(self) -> dict[str, str]:
        """A container that bears these (`with_kwargs(labels=...)`) is removed with the mesh, however the mesh ends."""
        return dict(self._unwrap_network.attrs["Labels"])

    def address_of(self, container: DockerContainer) -> str:
        """Its address in this network. Raises LookupError when it has none."""
        container.reload()
        joined = container.get_wrapped_container().attrs["NetworkSettings"]["Networks"]
        if not (address := joined.get(self.name, {}).get("IPAddress")):
            raise LookupError(f"container {container.get_container_id()[:12]} is not in the network {self.name}")
        return str(address)

    def find(self, labels: Mapping[str, str]) -> Container:
        """The mesh's own container with these labels. Raises LookupError."""
        wanted = [f"{name}={value}" for name, value in {**self.labels, **labels}.items()]
        found = self._docker.client.containers.list(filters={"label": wanted})
        if not found:
            raise LookupError(f"no container of the mesh is running with {dict(labels)}")
        return found[0]

    def close(self) -> None:
        """Ends the connections to the engine."""
        self._docker.client.close()
