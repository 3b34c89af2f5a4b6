"""`meshdrill logs`."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import click

from mesh.cli.options import mesh_options, state_folder

_POLL_S = 0.2
_BLOCK = 1 << 16


@click.command("logs")
@click.argument("pod")
@click.option("-c", "--container", help="Which container; by default the app's.")
@click.option("-f", "--follow", is_flag=True, help="Go on as more is written, until Ctrl-C.")
@click.option("--tail", "lines", type=click.IntRange(min=0), help="Only the last lines.")
@mesh_options
def command(*, pod: str, container: str | None, follow: bool, lines: int | None, name: str, state: Path | None) -> None:
    """Show a container's output. POD is a name, a unique beginning of one, or deploy/NAME.

    \b
    meshdrill logs deploy/reviews-v1
    meshdrill logs productpage -c istio-proxy -f
    """
    from mesh.cli.columns import trouble_of  # noqa: PLC0415 - not needed for --help
    from mesh.cli.connect import WORKLOAD_PREFIXES, connect, container_of, find_pod  # noqa: PLC0415

    folder = state_folder(state, name)
    with connect(state, name) as client:
        pods = client.pods()
    found = find_pod(pods, pod)
    if pod.startswith(WORKLOAD_PREFIXES) and (others := sum(one.workload == found.workload for one in pods) - 1):
        click.echo(f"{found.name}, one of {others + 1} pods:", err=True)
    chosen = container_of(found, container)
    file = folder / "logs" / f"{found.name}.{chosen}.log"
    if (not file.exists() or file.stat().st_size == 0) and (why := trouble_of(found.manifest, chosen)):
        click.echo(f"nothing printed so far; {chosen}: {why}", err=True)
    for block in blocks(file, lines, follow=follow):
        click.echo(block, nl=False)


def blocks(file: Path, lines: int | None, *, follow: bool) -> Iterator[bytes]:
    """The file's content, and with `follow` what is added to it for ever, also after it was cut for its size."""
    if not file.exists():
        return
    with file.open("rb") as log:
        if lines is not None:
            log.seek(start_of_tail(file, lines))
        while True:
            while block := log.read(_BLOCK):
                yield block
            if not follow:
                return
            if os.fstat(log.fileno()).st_size < log.tell():
                log.seek(0)
            time.sleep(_POLL_S)


def start_of_tail(file: Path, lines: int) -> int:
    """Where the last `lines` lines begin."""
    if lines == 0:
        return file.stat().st_size
    with file.open("rb") as log:
        position = log.seek(0, os.SEEK_END)
        found = 0
        while position > 0:
            size = min(_BLOCK, position)
            position -= size
            log.seek(position)
            block = log.read(size)
            end = len(block) - 1 if found == 0 and position + size == file.stat().st_size else len(block)
            while (newline := block.rfind(b"\n", 0, end)) >= 0:
                found += 1
                if found == lines:
                    return position + newline + 1
                end = newline
        return 0
