"""`meshdrill get`."""

from datetime import UTC, datetime
from pathlib import Path

import click

from mesh.cli.options import mesh_options, output_option


@click.command("get")
@click.argument("kind")
@click.argument("object_name", metavar="[NAME]", required=False)
@click.option("-n", "--namespace", help="Only this namespace; for NAME the default is `default`.")
@click.option("-l", "--selector", default="", help="Only objects with these labels: a=b,c=d.")
@output_option()
@mesh_options
def command(
    *,
    kind: str,
    object_name: str | None,
    namespace: str | None,
    selector: str,
    output: str | None,
    name: str,
    state: Path | None,
) -> None:
    """Show resources of a KIND (its name, plural or short name), or the one called NAME.

    \b
    meshdrill get pods
    meshdrill get vs reviews -o yaml
    meshdrill get deploy -l app=reviews
    """
    from mesh.cli.connect import connect  # noqa: PLC0415 - not needed for --help
    from mesh.cli.show import labels_of, shown  # noqa: PLC0415
    from mesh.client import find_kind  # noqa: PLC0415

    found = find_kind(kind)
    with connect(state, name) as client:
        if object_name is not None:
            objects = [client.get(kind, object_name, namespace or "default")]
        else:
            objects = client.list(kind, namespace, labels=labels_of(selector)).items
    click.echo(shown(found.name, objects, output, single=object_name is not None, now=datetime.now(UTC)))
