"""`meshdrill compose`."""

import ipaddress
from pathlib import Path

import click

from mesh.cli.options import DEFAULT_NAME, engine_option, file_option, port_option


def _subnet(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError as error:
        raise click.BadParameter(f'"{value}" is not an IPv4 network such as 10.246.0.0/24') from error
    if network.prefixlen > 26:
        raise click.BadParameter(f"{value} holds too few addresses: /26 is the smallest")
    return value


@click.command("compose")
@file_option(required=False, help_text="Manifests to run instead of Bookinfo: a file, a folder, or - for stdin.")
@click.option(
    "--out",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where to write; compose calls the project by its name. It is made readable to you alone.",
)
@engine_option
@port_option
@click.option(
    "--subnet",
    default="10.246.0.0/24",
    show_default=True,
    callback=_subnet,
    metavar="CIDR",
    help="Network of the pods: another one for each mesh of this machine.",
)
@click.option("--name", default=DEFAULT_NAME, show_default=True, help="What the mesh is called.")
def command(*, files: tuple[str, ...], folder: Path, engine: str, port: int, subnet: str, name: str) -> None:
    """Write a mesh as a compose file: the docker platform's pods, run by `docker compose` and no `meshdrill up`.

    \b
    meshdrill compose --out bookinfo                       Bookinfo, with gateway and destination rules
    meshdrill compose -f shop/ -f routes.yaml --out shop   your own manifests
    docker compose -f bookinfo/compose.yaml up -d
    docker compose -f bookinfo/compose.yaml down -v
    """
    from mesh.cli.bundled import bookinfo_files  # noqa: PLC0415 - not needed for --help
    from mesh.cli.files import read_valid  # noqa: PLC0415
    from mesh.config.decode import decode_object  # noqa: PLC0415
    from mesh.platforms.compose.write import Wanted, write  # noqa: PLC0415
    from mesh.platforms.docker.engine import Engine  # noqa: PLC0415
    from mesh.platforms.docker.images import Images  # noqa: PLC0415
    from mesh.platforms.node.gateway import ingress_gateway  # noqa: PLC0415
    from mesh.platforms.session import gateway_url  # noqa: PLC0415

    own = [decode_object(manifest) for manifest in ingress_gateway(port)]
    wanted = Wanted(name, engine, gateway_url(port), subnet, [*own, *read_valid(files or bookinfo_files())])
    written = write(wanted, folder, Images(Engine()).rights)
    click.echo(f"{written} is written: docker compose -f {written} up -d")
