"""Holds a mesh with a container beside it until it is killed; says where the mesh's state is."""

import sys

from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from mesh.testing import MeshContainer

image, manifest = sys.argv[1:]
testcontainers_config.ryuk_disabled = True
mesh = MeshContainer([manifest]).start()
labels = mesh.network.labels
beside = DockerContainer(image, command="sleep 600").with_network(mesh.network).with_kwargs(labels=labels).start()
print(beside.get_container_id(), mesh.state, flush=True)
sys.stdin.read()
