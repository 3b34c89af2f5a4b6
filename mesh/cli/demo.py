"""`meshdrill demo`."""

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from mesh.cli.drill import RESULTS, run_against
from mesh.cli.errors import Failure

_END_S = 20.0


@click.command("demo")
@click.option(
    "--proxy",
    "engine",
    type=click.Choice(["python", "envoy"]),
    default="python",
    show_default=True,
    help="What runs as sidecar: ours, or the real Envoy.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=RESULTS,
    show_default=True,
    help="Folder of the report.",
)
def command(*, engine: str, out: Path) -> int:
    """Bookinfo on a mesh of its own, under load through every drill, and down again.

    It keeps clear of a mesh that is running, and leaves nothing behind but the report.

    \b
    meshdrill demo
    meshdrill demo --proxy envoy
    """
    from chaos import drill  # noqa: PLC0415 - not needed for --help
    from mesh.client import MeshClient  # noqa: PLC0415

    with (
        tempfile.TemporaryDirectory(prefix="meshdrill-demo-") as folder,
        _mesh(engine, Path(folder)) as state,
        MeshClient.from_state(state) as client,
    ):
        return run_against(client, drill.built_in(), out, None)


@contextmanager
def _mesh(engine: str, folder: Path) -> Iterator[Path]:
    """Bookinfo in a process of its own, which ends when its stdin does: so it cannot outlive this one."""
    state = folder / "mesh"
    options = ["--state", str(state), "--name", "demo", "--proxy", engine, "--port", str(_free_port())]
    process = subprocess.Popen(
        [sys.executable, "-m", "mesh.cli.main", "up", "--until-stdin-ends", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is this process's to handle: the mesh stays until the faults on it are lifted.
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for line in process.stdout:
            click.echo(line, nl=False)
            if line.startswith("http"):
                break
        else:
            raise Failure(f"the mesh did not come up (exit code {process.wait()})")
        yield state
    finally:
        process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
