"""What would keep drills from running, asked before any load starts."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.drill import Drill
from chaos.errors import BadDrill, CannotMeasure
from mesh.client import ApiError, MeshClient


def require_valid(client: MeshClient, drills: Sequence[Drill]) -> None:
    """Raises BadDrill with all that the mesh would refuse of the drills' resources, by file and line."""
    manifests = {
        id(manifest): manifest
        for drill in drills
        for index in range(len(drill.spec.phases))
        for manifest in drill.resources(index)
    }
    problems = []
    for manifest in manifests.values():
        try:
            client.apply(manifest, dry_run=True)
        except ApiError as error:
            # A refusal names its causes; what else goes wrong is about the mesh, not about the drill.
            if error.status not in (400, 404, 422):
                raise
            problems += [f"{manifest.place}: {cause}" for cause in error.causes or (error.message,)]
    if problems:
        raise BadDrill(problems)


def require_no_fault(client: MeshClient) -> None:
    """Raises CannotMeasure where a fault lies on the mesh already: what a drill measured might be that one's doing."""
    faults = client.list("Fault").items
    if faults:
        found = [
            f"{fault['metadata']['name']} (until {fault['status']['expiresAt']}, if not renewed)" for fault in faults
        ]
        raise CannotMeasure(
            f"on the mesh lies already: {', '.join(found)}. Another drill runs, or was killed: then its faults end by "
            "themselves at that time"
        )
