"""`meshdrill status`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mesh.cli.options import mesh_options, output_option

if TYPE_CHECKING:
    from mesh.client import MeshClient


@click.command("status")
@output_option()
@mesh_options
def command(*, output: str | None, name: str, state: Path | None) -> int:
    """Show the mesh, its pods and whether their sidecars are in step. Exit code 1 if a pod is not ready.

    \b
    meshdrill status -o json
    """
    from mesh.cli.connect import connect  # noqa: PLC0415 - not needed for --help
    from mesh.cli.tables import dumped  # noqa: PLC0415

    with connect(state, name) as client:
        facts = gather(client)
    click.echo(dumped(facts, output) if output else render(facts))
    return 0 if all(pod["ready"] for pod in facts["pods"]) else 1


def gather(client: "MeshClient") -> dict[str, Any]:
    """What `-o json` prints."""
    from mesh.cli.columns import pod_word, ready_count, restarts, troubles  # noqa: PLC0415

    assert client.mesh is not None
    synced = {proxy.id: proxy.is_synced for proxy in client.proxies()}
    pods = [
        {
            "name": pod.name,
            "namespace": pod.namespace,
            "ip": pod.ip,
            "ready": pod.ready,
            "containers": ready_count(pod.manifest),
            "status": pod_word(pod.manifest),
            "restarts": restarts(pod.manifest),
            "troubles": [] if pod.ready else troubles(pod.manifest),
            "proxy": _proxy_word(synced.get(f"{pod.name}.{pod.namespace}")),
        }
        for pod in sorted(client.pods(), key=lambda pod: pod.name)
    ]
    mesh = client.mesh
    facts = {"name": mesh.name, "engine": mesh.engine, "platform": mesh.platform, "gateway": mesh.gateway}
    return {"mesh": facts | {"api": mesh.api, "node_pid": mesh.node_pid}, "pods": pods}


def render(facts: dict[str, Any]) -> str:
    from mesh.cli.tables import table  # noqa: PLC0415

    mesh, pods = facts["mesh"], facts["pods"]
    columns = ("name", "containers", "status", "restarts", "ip", "proxy")
    head = f"mesh {mesh['name']} on {mesh['platform']}, sidecars: {mesh['engine']}, gateway: {mesh['gateway']}"
    rows = [[pod[column] for column in columns] for pod in pods]
    shown = f"{head}\n\n{table(['POD', 'READY', 'STATUS', 'RESTARTS', 'IP', 'PROXY'], rows)}"
    why = [f"{pod['name']}: {trouble}" for pod in pods for trouble in pod["troubles"]]
    return "\n".join([shown, "", *why, "what a pod printed: meshdrill logs POD"]) if why else shown


def _proxy_word(synced: bool | None) -> str:
    return {None: "not connected", True: "synced", False: "behind"}[synced]
