"""`meshdrill version`."""

import json
import platform
from importlib.metadata import version

import click


@click.command("version")
@click.option("-o", "--output", type=click.Choice(["json"]), help="For scripts.")
def command(*, output: str | None) -> None:
    """Show the version of Meshdrill, and of the Python it runs on."""
    fields = {"meshdrill": version("meshdrill"), "python": platform.python_version()}
    if output == "json":
        click.echo(json.dumps(fields))
    else:
        click.echo(f"meshdrill {fields['meshdrill']} on Python {fields['python']}")
