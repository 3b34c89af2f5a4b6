"""`meshdrill up`."""

from pathlib import Path

import click

from mesh.cli.options import engine_option, file_option, mesh_options, platform_option, port_option, state_folder


@click.command("up")
@file_option(required=False, help_text="Manifests to run instead of Bookinfo: a file, a folder, or - for stdin.")
@engine_option
@platform_option
@click.option("-d", "--detach", is_flag=True, help="Return once the mesh is ready, and leave it running.")
@port_option
@click.option(
    "--host-port",
    "host_ports",
    type=click.IntRange(1, 65535),
    multiple=True,
    metavar="PORT",
    help="A port of 127.0.0.1 on this host that pods may call, as host.meshdrill.internal; may be repeated. By default "
    "pods on netns and docker reach nothing outside of the mesh.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds within which the mesh must be ready.",
)
@click.option("--background", is_flag=True, hidden=True)
@click.option("--until-stdin-ends", is_flag=True, hidden=True)
@mesh_options
def command(
    *,
    files: tuple[str, ...],
    engine: str,
    platform: str | None,
    detach: bool,
    port: int,
    host_ports: tuple[int, ...],
    timeout_s: float,
    background: bool,
    until_stdin_ends: bool,
    name: str,
    state: Path | None,
) -> int:
    """Start a mesh and stay in front of it; Ctrl-C takes it all down.

    \b
    meshdrill up                          Bookinfo, with gateway and destination rules
    meshdrill up -d --proxy envoy         the same on the real Envoy, in the background
    meshdrill up -f shop/ -f routes.yaml  your own manifests; their folder of work is the present one
    meshdrill up --host-port 3306         pods may call a server on this host
    """
    folder = state_folder(state, name)
    if detach:
        from mesh.cli.detached import run_detached  # noqa: PLC0415 - each way loads only what it needs

        way = ["--proxy", engine, "--port", str(port), "--timeout", str(timeout_s), "--name", name]
        where = ["--platform", platform] if platform else []
        out = [word for number in host_ports for word in ("--host-port", str(number))]
        return run_detached([*_files_again(files), *way, *where, *out], folder)
    from mesh.cli.foreground import UpRequest, run_foreground  # noqa: PLC0415

    run_foreground(
        UpRequest(files, engine, platform, port, timeout_s, name, folder, background, until_stdin_ends, host_ports)
    )
    return 0


def _files_again(files: tuple[str, ...]) -> list[str]:
    """The arguments with which the background process reads the same."""
    return [word for file in files for word in ("-f", file)]
