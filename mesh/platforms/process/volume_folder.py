"""The folder of the mesh's state with what its pods' volumes hold, which goes with them."""

import os
import shutil
from pathlib import Path

VOLUMES = "volumes"


def remove_volumes(folder: Path) -> None:
    """All below it, also what an app took its owner's permissions from. No error when there is none."""
    if not folder.exists():
        return
    for inner, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(inner, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(folder)
