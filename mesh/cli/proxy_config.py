"""`meshdrill proxy-config`."""

import json
from pathlib import Path

import click

from mesh.cli.options import mesh_options, output_option


class _Resources(click.Choice[str]):
    """In the singular too, as istioctl has it."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        plural = f"{value}s"
        return super().convert(plural if plural in self.choices else value, param, ctx)


@click.command("proxy-config")
@click.argument("what", type=_Resources(["listeners", "routes", "clusters", "endpoints", "secrets"]))
@click.argument("pod")
@output_option()
@mesh_options
def command(*, what: str, pod: str, output: str | None, name: str, state: Path | None) -> None:
    """Show what a sidecar runs with, as the sidecar itself says. POD as for `logs`.

    \b
    meshdrill proxy-config routes deploy/productpage-v1
    meshdrill proxy-config endpoints reviews-v1 -o json
    """
    from mesh.cli import config_dump  # noqa: PLC0415 - not needed for --help
    from mesh.cli.connect import connect, find_pod  # noqa: PLC0415
    from mesh.cli.tables import dumped  # noqa: PLC0415

    with connect(state, name) as client:
        found = find_pod(client.pods(), pod)
        answer = json.loads(client.admin(found, config_dump.page(what)))
    resources = config_dump.resources(what, answer)
    click.echo(dumped(resources, output) if output else config_dump.render(what, resources))
