"""`meshdrill down`."""

import contextlib
import os
import signal
import time
from pathlib import Path

import click

from mesh.cli.options import mesh_options, state_folder

_PATIENCE_S = 20.0
_POLL_S = 0.05


def _send(pid: int, sig: signal.Signals) -> None:
    """A parent that was killed is gone a moment before the node that holds the folder."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)


@click.command("down")
@mesh_options
def command(*, name: str, state: Path | None) -> None:
    """End the mesh and everything in it. Logs stay in the state folder until the next `up`.

    \b
    meshdrill down
    """
    from mesh.platforms.leftovers import sweep  # noqa: PLC0415 - not needed for --help
    from mesh.platforms.state import holder  # noqa: PLC0415

    folder = state_folder(state, name)
    pid = holder(folder)
    if pid is not None:
        _send(pid, signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE_S
        while holder(folder) is not None:
            if time.monotonic() > deadline:
                _send(pid, signal.SIGKILL)
                break
            time.sleep(_POLL_S)
    left = sweep(folder) if folder.is_dir() else False
    (folder / "mesh.json").unlink(missing_ok=True)
    if pid is None and not left:
        click.echo(f"no mesh is running in {folder}")
    else:
        click.echo(f"mesh {name} is down")
