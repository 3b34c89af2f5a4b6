"""`meshdrill delete`."""

from pathlib import Path

import click

from mesh.cli.options import file_option, mesh_options


@click.command("delete")
@click.argument("words", nargs=-1, metavar="[KIND NAME...]")
@file_option(required=False, help_text="Delete what these manifests name.")
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("--ignore-not-found", is_flag=True, help="What is not there is no error.")
@mesh_options
def command(
    *,
    words: tuple[str, ...],
    files: tuple[str, ...],
    namespace: str,
    ignore_not_found: bool,
    name: str,
    state: Path | None,
) -> None:
    """Delete resources. A deleted pod is replaced; a deleted deployment takes its pods along.

    \b
    meshdrill delete vs reviews
    meshdrill delete -f canary.yaml
    """
    from mesh.cli.connect import connect  # noqa: PLC0415 - not needed for --help
    from mesh.cli.files import read_manifests  # noqa: PLC0415
    from mesh.client import ApiError, find_kind  # noqa: PLC0415

    if bool(files) == bool(words) or len(words) == 1:
        raise click.UsageError("give either KIND and NAME, or -f FILE")
    targets = [
        (manifest.kind.name, manifest.resource.name, manifest.resource.namespace) for manifest in read_manifests(files)
    ]
    if words:
        targets = [(find_kind(words[0]).name, word, namespace) for word in words[1:]]
    with connect(state, name) as client:
        for kind, object_name, object_namespace in targets:
            try:
                client.delete(kind, object_name, object_namespace)
            except ApiError as error:
                if error.status != 404 or not ignore_not_found:
                    raise
                continue
            click.echo(f"{kind.lower()}/{object_name} deleted")
