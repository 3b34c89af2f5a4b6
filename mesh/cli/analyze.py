"""`meshdrill analyze`."""

from typing import TYPE_CHECKING, Any

import click

from mesh.cli.options import file_option, output_option

if TYPE_CHECKING:
    from mesh.config.analyze.message import Message


@click.command("analyze")
@file_option(
    required=True, help_text="Manifests: a file, a folder, or - for standard input. May be given several times."
)
@click.option("--no-gateway", is_flag=True, help="Do not assume the ingress gateway that `meshdrill up` brings.")
@output_option()
def command(*, files: tuple[str, ...], no_gateway: bool, output: str | None) -> int:
    """Check manifests together for mistakes, with Istio's message codes. No mesh needs to run.

    Exit code 1 when there is an error; warnings and hints leave it at 0.

    \b
    meshdrill analyze -f shop/ -f routes.yaml
    """
    from mesh.cli.files import read_texts  # noqa: PLC0415 - not needed for --help
    from mesh.cli.tables import dumped  # noqa: PLC0415
    from mesh.config.analyze.message import Severity  # noqa: PLC0415
    from mesh.config.analyze.run import analyze  # noqa: PLC0415
    from mesh.config.decode import decode_object, decode_text  # noqa: PLC0415
    from mesh.platforms.node.gateway import ingress_gateway  # noqa: PLC0415

    decoded = [decode_text(text, name) for name, text in read_texts(files)]
    beneath = [] if no_gateway else [decode_object(manifest) for manifest in ingress_gateway()]
    messages = analyze(
        [manifest for each in decoded for manifest in each.manifests],
        [problem for each in decoded for problem in each.problems],
        beneath,
    )
    if output is not None:
        click.echo(dumped([as_fields(message) for message in messages], output))
    else:
        click.echo("\n".join(map(str, messages)) or "no mistakes found")
    return 1 if any(message.severity is Severity.ERROR for message in messages) else 0


def as_fields(message: "Message") -> dict[str, Any]:
    """istioctl's JSON form, with the field's path."""
    return {
        "code": message.code.id,
        "name": message.code.name,
        "level": message.severity.title,
        "origin": message.resource,
        "reference": message.location,
        "path": message.path,
        "message": message.text,
    }
