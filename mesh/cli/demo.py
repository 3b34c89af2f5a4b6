"""`meshdrill demo`."""

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from mesh.cli.drill import RESULTS, chosen, run_against
from mesh.cli.errors import Failure
from mesh.cli.options import platform_option

_END_S = 20.0
_LET_GO_S = 0.5  # it ends within this time of closing its output, or it has let go of it


@click.command("demo")
@click.argument("drills", nargs=-1, metavar="[NAME|FILE]...")
@click.option(
    "--proxy",
    "engine",
    type=click.Choice(["python", "envoy"]),
    default="python",
    show_default=True,
    help="What runs as sidecar: ours, or the real Envoy.",
)
@platform_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=RESULTS,
    show_default=True,
    help="Folder of the report.",
)
def command(*, drills: tuple[str, ...], engine: str, platform: str | None, out: Path) -> int:
    """Bookinfo on a mesh of its own, under load through every drill, or those named, and down again.

    It keeps clear of a mesh that is running, and leaves nothing behind but the report.

    \b
    meshdrill demo
    meshdrill demo canary-split --proxy envoy
    """
    from chaos.interrupts import Interrupts  # noqa: PLC0415 - not needed for --help
    from mesh.client import MeshClient  # noqa: PLC0415

    wanted = chosen(drills)
    interrupts = Interrupts()
    with (
        interrupts.taken(),
        tempfile.TemporaryDirectory(prefix="meshdrill-demo-", ignore_cleanup_errors=True) as folder,
        _mesh(engine, platform, Path(folder)) as mesh,
    ):
        with interrupts.let_through():
            _await_ready(mesh)
        with MeshClient.from_state(Path(folder)) as client:
            return run_against(client, wanted, out, None)


@contextmanager
def _mesh(engine: str, platform: str | None, state: Path) -> Iterator["subprocess.Popen[str]"]:
    """Bookinfo in a process of its own, which ends when its stdin does, and its folder with it: so neither can outlive
    this process, however that ends."""
    options = ["--state", str(state), "--name", "demo", "--proxy", engine, "--port", str(_free_port())]
    if platform:
        options += ["--platform", platform]
    process = subprocess.Popen(
        [sys.executable, "-m", "mesh.cli.main", "up", "--background", "--until-stdin-ends", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is this process's to handle: the mesh stays until the faults on it are lifted.
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _await_ready(mesh: "subprocess.Popen[str]") -> None:
    """Shows the mesh's output until the mesh lets go of it, which it does when it is ready or could not come up."""
    assert mesh.stdout is not None
    for line in mesh.stdout:
        click.echo(line, nl=False)
    try:
        code = mesh.wait(_LET_GO_S)
    except subprocess.TimeoutExpired:
        return
    raise Failure(f"the mesh did not come up (exit code {code})")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
