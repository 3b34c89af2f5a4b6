"""`meshdrill images`."""

import time

import click


@click.group("images")
def command() -> None:
    """Images for the docker platform."""


@command.command("build")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--base",
    default="python:3.12-slim",
    show_default=True,
    help="Image to build on: a Debian or Ubuntu with Python 3.11 or later and its venv module.",
)
@click.option("--tag", default="latest", show_default=True, help="Tag of what is built.")
def build(*, names: tuple[str, ...], base: str, tag: str) -> None:
    """Build meshdrill/proxy, which runs sidecars and the control plane, and an image for each of Bookinfo's apps.

    \b
    meshdrill images build                          all of them
    meshdrill images build proxy --base my/python   one, on a base of your own
    """
    from mesh.cli.errors import Failure  # noqa: PLC0415 - not needed for --help
    from mesh.platforms.docker import build as images  # noqa: PLC0415
    from mesh.platforms.docker.engine import Engine  # noqa: PLC0415

    began = time.monotonic()
    known = images.names()
    if unknown := [name for name in names if name not in known]:
        raise Failure(f'no image is called "{unknown[0]}"; there are {", ".join(known)}')

    def say(text: str) -> None:
        click.echo(f"[{time.monotonic() - began:5.1f} s] {text}")

    builder = images.Builder(Engine(), base, tag, say)
    for name in names or known:
        say(f"{builder.build(name)}: built")
