"""`meshdrill register`."""

from pathlib import Path

import click

from mesh.cli.options import mesh_options


@click.command("register")
@click.argument("service", metavar="NAME")
@click.argument("address")
@click.argument("ports", nargs=-1, required=True, metavar="[PROTOCOL:]PORT...")
@click.option("-n", "--namespace", default="default", show_default=True)
@mesh_options
def command(
    *, service: str, address: str, ports: tuple[str, ...], namespace: str, name: str, state: Path | None
) -> None:
    """Make a server outside of the mesh the service NAME, or one more endpoint of it.

    It becomes an endpoint of the ServiceEntry NAME, whose host is NAME.NAMESPACE.svc.cluster.local. ADDRESS is an IPv4
    address. PROTOCOL is as in the name of a Service's port; without it a port is TCP, 80 is HTTP and 443 is HTTPS.
    Returns when every sidecar knows it.

    \b
    meshdrill register mysqldb 10.0.0.1 3306
    meshdrill register api 10.0.0.2 http:8080 grpc:9090
    """
    from mesh.cli.connect import connect  # noqa: PLC0415 - not needed for --help
    from mesh.cli.entries import is_address, named_ports, registered  # noqa: PLC0415
    from mesh.client import ApiError  # noqa: PLC0415

    if not is_address(address):
        raise click.UsageError(f'"{address}" is not an IPv4 address')
    try:
        wanted = named_ports(ports)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with connect(state, name) as client:
        if any(own["metadata"]["name"] == service for own in client.list("Service", namespace).items):
            raise click.UsageError(f"there is a Service {service} in {namespace} already: its pods are its endpoints")
        try:
            present = client.get("ServiceEntry", service, namespace)
        except ApiError as error:
            if error.status != 404:
                raise
            present = None
        entry = registered(present, service, namespace, address, wanted)
        stored = client.create(entry) if present is None else client.replace(entry)
        client.wait_synced(stored["metadata"]["resourceVersion"], timeout_s=30.0)
    click.echo(f"serviceentry/{service}: {address} is an endpoint of {stored['spec']['hosts'][0]}")
