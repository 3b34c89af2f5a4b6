"""A mesh for tests, in the manner of testcontainers: `with MeshContainer() as mesh: ...`.

All of it is what the command does, run as a child of the test or asked of the control plane's API. MUST NOT start,
change or remove anything of a mesh by another way. Wants the extra `testing`.
"""

from mesh.testing.container import MeshContainer
from mesh.testing.drills import Checked, DrillRun
from mesh.testing.network import MeshNetwork

__all__ = ["Checked", "DrillRun", "MeshContainer", "MeshNetwork"]
