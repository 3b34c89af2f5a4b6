"""`meshdrill apply`."""

from pathlib import Path

import click

from mesh.cli.options import file_option, mesh_options


@click.command("apply")
@file_option(
    required=True, help_text="Manifests: a file, a folder, or - for standard input. May be given several times."
)
@click.option("--wait", is_flag=True, help="Return when every connected sidecar has taken the change.")
@click.option("--timeout", "timeout_s", type=float, default=30.0, show_default=True, help="Seconds that --wait waits.")
@click.option("--dry-run", is_flag=True, help="Check only; change nothing.")
@mesh_options
def command(
    *, files: tuple[str, ...], wait: bool, timeout_s: float, dry_run: bool, name: str, state: Path | None
) -> None:
    """Create or change resources, all of them or none. Deployments start pods.

    \b
    meshdrill apply -f canary.yaml --wait
    kubectl get vs reviews -o yaml | meshdrill apply -f -
    """
    from mesh.cli.connect import connect  # noqa: PLC0415 - not needed for --help
    from mesh.cli.errors import Failure  # noqa: PLC0415
    from mesh.cli.files import read_valid  # noqa: PLC0415

    manifests = read_valid(files)
    if not manifests:
        raise Failure(f"no object in {', '.join(files)}")
    with connect(state, name) as client:
        result = client.apply_all([dict(manifest.raw) for manifest in manifests], dry_run=dry_run)
        for item in result.items:
            meta = item.object["metadata"]
            click.echo(f"{item.object['kind'].lower()}/{meta['name']} {item.action}{' (dry run)' if dry_run else ''}")
        if wait and not dry_run:
            client.wait_synced(result.resource_version, timeout_s)
            click.echo("every sidecar has taken it")
