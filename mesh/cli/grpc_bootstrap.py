"""`meshdrill grpc-bootstrap`."""

from pathlib import Path

import click

from mesh.cli.options import mesh_options, state_folder

_FILE = "grpc-bootstrap.json"


@click.command("grpc-bootstrap")
@click.argument("pod")
@click.option("--path", "only_path", is_flag=True, help="Where the file is, instead of what it says.")
@mesh_options
def command(*, pod: str, only_path: bool, name: str, state: Path | None) -> None:
    """Show what gRPC's own xDS client needs to be a pod's. POD as for `logs`.

    A program that runs with it calls `xds:///reviews.default.svc.cluster.local:9080` as that pod, by its certificate.
    Not on the netns platform, whose pods' addresses lead nowhere outside of it.

    \b
    GRPC_XDS_BOOTSTRAP=$(meshdrill grpc-bootstrap deploy/client --path) python client.py
    """
    from mesh.cli.connect import connect, find_pod  # noqa: PLC0415 - not needed for --help
    from mesh.cli.errors import Failure  # noqa: PLC0415

    with connect(state, name) as client:
        assert client.mesh is not None
        if client.mesh.platform in ("netns", "docker"):
            raise Failure(
                f"the pods of a mesh on {client.mesh.platform} are reached by no program outside of it; "
                "use --platform process"
            )
        found = find_pod(client.pods(), pod)
    file = state_folder(state, name) / "pods" / found.name / _FILE
    if not file.exists():
        raise Failure(f"pod {found.name} has no certificate of the mesh: it runs without a sidecar's agent")
    click.echo(file if only_path else file.read_text())
