"""`meshdrill demo`."""

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from mesh.cli.drill import RESULTS, chosen, run_against
from mesh.cli.options import engine_option, platform_option
from mesh.cli.tied import TiedMesh, free_port


@click.command("demo")
@click.argument("drills", nargs=-1, metavar="[NAME|FILE]...")
@engine_option
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
            mesh.await_ready(functools.partial(click.echo, nl=False))
        with MeshClient.from_state(Path(folder)) as client:
            return run_against(client, wanted, out, None)


@contextmanager
def _mesh(engine: str, platform: str | None, state: Path) -> Iterator[TiedMesh]:
    """Bookinfo, for the length of the block."""
    options = ["--name", "demo", "--proxy", engine, "--port", str(free_port())]
    if platform:
        options += ["--platform", platform]
    mesh = TiedMesh(state, options)
    try:
        yield mesh
    finally:
        mesh.end()
