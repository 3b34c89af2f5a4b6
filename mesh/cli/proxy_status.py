"""`meshdrill proxy-status`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mesh.cli.options import mesh_options, output_option

if TYPE_CHECKING:
    from mesh.client import ProxyStatus

_TYPES = ("CDS", "LDS", "EDS", "RDS")


@click.command("proxy-status")
@output_option()
@mesh_options
def command(*, output: str | None, name: str, state: Path | None) -> None:
    """Show, per sidecar and xDS type, whether what was sent was taken: SYNCED, STALE, NACK or NOT SENT.

    \b
    meshdrill proxy-status
    """
    from dataclasses import asdict  # noqa: PLC0415 - not needed for --help

    from mesh.cli.connect import connect  # noqa: PLC0415
    from mesh.cli.tables import dumped  # noqa: PLC0415

    with connect(state, name) as client:
        proxies = client.proxies()
    click.echo(dumped([asdict(proxy) for proxy in proxies], output) if output else render(proxies))


def render(proxies: "Sequence[ProxyStatus]") -> str:
    """A table, and below it the text of every NACK."""
    from mesh.cli.tables import table  # noqa: PLC0415

    if not proxies:
        return "no proxy is connected"
    types = (*_TYPES, *(("SDS",) if any(own.type == "SDS" for proxy in proxies for own in proxy.types) else ()))
    rows = [[proxy.id, *_states(proxy, types)] for proxy in proxies]
    nacks = [
        f"{proxy.id} refused {status.type}: {status.error}"
        for proxy in proxies
        for status in proxy.types
        if status.state == "NACK"
    ]
    return "\n".join([table(["NAME", *types], rows), *nacks])


def _states(proxy: "ProxyStatus", types: Sequence[str]) -> list[str]:
    states = {status.type: status.state for status in proxy.types}
    return [states.get(kind, "NOT SENT") for kind in types]
