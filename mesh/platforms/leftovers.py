"""What a mesh that did not end by itself has left: processes, and in the Docker engine containers and a network.

Standard library alone until there is something in an engine to look for, as the reaper waits beside every mesh.
"""

from pathlib import Path

from mesh.platforms.process.ledger import Ledger
from mesh.platforms.process.volume_folder import VOLUMES, remove_volumes

ENGINE_MARK = "engine"
"""A file of the state folder that is there for as long as a Docker engine may hold something of the mesh. It holds the
name of the run."""


def sweep(state: Path) -> bool:
    """Ends all of it; whether there was anything. Returns when it is gone.

    Raises TimeoutError or PlatformError when something stays, or when the engine does not answer.
    """
    found = bool(Ledger(state).sweep())
    remove_volumes(state / VOLUMES)
    if not (state / ENGINE_MARK).exists():
        return found
    from mesh.platforms.docker.engine import Engine  # noqa: PLC0415 - see the docstring of the module
    from mesh.platforms.docker.ownership import Ownership  # noqa: PLC0415
    from mesh.platforms.docker.sweep import sweep as sweep_engine  # noqa: PLC0415

    removed = sweep_engine(Engine(), Ownership.of(state))
    (state / ENGINE_MARK).unlink(missing_ok=True)
    return found or removed > 0


def sweep_run(state: Path, run: str) -> None:
    """What `sweep` does, for the reaper: of the engine only what this run made, as the next one may have begun."""
    Ledger(state).sweep()
    remove_volumes(state / VOLUMES)
    mark = state / ENGINE_MARK
    if not mark.exists() or mark.read_text() != run:
        return
    from mesh.platforms.docker.engine import Engine  # noqa: PLC0415
    from mesh.platforms.docker.ownership import Ownership  # noqa: PLC0415
    from mesh.platforms.docker.sweep import sweep as sweep_engine  # noqa: PLC0415

    sweep_engine(Engine(), Ownership.of(state, run=run))
