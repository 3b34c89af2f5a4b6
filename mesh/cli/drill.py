"""`meshdrill drill`."""

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mesh.cli.options import mesh_options, output_option, state_folder
from mesh.cli.passing import Passing

if TYPE_CHECKING:
    from chaos.drill import Drill
    from mesh.client import MeshClient

RESULTS = Path("results")


@click.group("drill")
def command() -> None:
    """List and run drills: faults and canaries under load, with assertions that end in a verdict."""


@command.command("list")
@output_option("json")
def list_drills(*, output: str | None) -> None:
    """List the drills that come with Meshdrill.

    \b
    meshdrill drill list
    """
    from chaos import drill  # noqa: PLC0415 - not needed for --help

    drills = drill.known()
    if output == "json":
        click.echo(
            json.dumps([{"name": each.name, "title": each.spec.title, "about": each.spec.about} for each in drills])
        )
        return
    for each in drills:
        click.echo(f"{each.name:<18} {each.spec.title}")


@command.command("show")
@click.argument("name")
def show(*, name: str) -> None:
    """Print a drill's YAML, to start one of your own from.

    \b
    meshdrill drill show canary-split > my-canary.yaml
    """
    from chaos import drill  # noqa: PLC0415

    _named(name)
    click.echo((drill.BUILT_IN / f"{name}.yaml").read_text(), nl=False)


@command.command("run")
@click.argument("drills", nargs=-1, metavar="[NAME|FILE]...")
@click.option("--seed", help="Key of the predicted requests; a former run's seed repeats its requests.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=RESULTS,
    show_default=True,
    help="Where the run's folder is made: journal.json, junit.xml, report.html, the load's files.",
)
@mesh_options
def run_drills(*, drills: tuple[str, ...], seed: str | None, out: Path, name: str, state: Path | None) -> int:
    """Run drills against a running mesh: by name, from files, or those of the demo.

    Exit code 0: every assertion held and every fault is undone. 1: not so. 130: interrupted, and every fault lifted.

    \b
    meshdrill drill run                      those of the demo
    meshdrill drill run canary-split
    meshdrill drill run my-canary.yaml --out results
    """
    from mesh.client import MeshClient  # noqa: PLC0415

    wanted = chosen(drills)
    with MeshClient.from_state(state_folder(state, name)) as client:
        return run_against(client, wanted, out, seed)


def run_against(client: "MeshClient", wanted: "list[Drill]", out: Path, seed: str | None) -> int:
    """Runs drills against a mesh; the exit code."""
    from chaos import runner  # noqa: PLC0415

    terminal = Passing()
    console = runner.Terminal(terminal.line, terminal.passing, terminal.width, terminal.colour)
    return runner.run(wanted, client, out, seed or secrets.token_hex(4), console)


def chosen(names: tuple[str, ...]) -> "list[Drill]":
    """The drills of those names and files; those of the demo, where none is given."""
    from chaos import drill  # noqa: PLC0415

    if not names:
        return drill.built_in()
    return [each for name in names for each in (drill.load(Path(name)) if _is_file(name) else [_named(name)])]


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml", ".json")) or "/" in name


def _named(name: str) -> "Drill":
    from chaos import drill  # noqa: PLC0415

    known = {each.name: each for each in drill.known()}
    if name not in known:
        raise click.UsageError(f"there is no drill {name!r}; known are {', '.join(known)}; a file's name ends in .yaml")
    return known[name]
