"""`meshdrill deregister`."""

from pathlib import Path

import click

from mesh.cli.options import mesh_options


@click.command("deregister")
@click.argument("service", metavar="NAME")
@click.argument("address")
@click.option("-n", "--namespace", default="default", show_default=True)
@mesh_options
def command(*, service: str, address: str, namespace: str, name: str, state: Path | None) -> None:
    """Take a server away from the service NAME; with its last one the service goes.

    \b
    meshdrill deregister mysqldb 10.0.0.1
    """
    from mesh.cli.connect import connect  # noqa: PLC0415 - not needed for --help
    from mesh.cli.entries import without  # noqa: PLC0415

    with connect(state, name) as client:
        entry = without(client.get("ServiceEntry", service, namespace), address)
        if entry is None:
            version = client.delete("ServiceEntry", service, namespace)
        else:
            version = client.replace(entry)["metadata"]["resourceVersion"]
        client.wait_synced(version, timeout_s=30.0)
    click.echo(f"serviceentry/{service}{': ' + address + ' is gone' if entry else ' deleted'}")
