"""A phase's resources over the mesh, from the moment all of it has taken them until all of it is as before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from chaos import in_force
from chaos.interrupts import Interrupts
from chaos.rollout import Rollout, await_done
from mesh.client import Manifest, MeshClient

READY_S = 30.0
GONE_S = 30.0


@dataclass(frozen=True, slots=True)
class Overlay:
    """What to lay over the mesh, as the Fault of that name."""

    name: str
    namespace: str
    resources: Sequence[Manifest]
    deletions: Sequence[Manifest]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to lay."""
        return not self.resources and not self.deletions

    @contextmanager
    def laid(self, client: MeshClient, interrupts: Interrupts) -> Iterator[None]:
        """Lies on the mesh for the length of the block: its pods are ready, and every proxy has it.

        Raises CannotMeasure or MeshError before the block when that does not come about, and after it when the mesh
        does not come back to what it was; FaultLost when the fault ended before the block did. A signal may end the
        wait for the pods, and nothing else here.
        """
        if self.is_empty:
            yield
            return
        deployments = [manifest for manifest in (*self.resources, *self.deletions) if manifest["kind"] == "Deployment"]
        rollouts = [Rollout.of(client, manifest) for manifest in deployments]
        back = rollouts
        faults = [manifest for manifest in self.resources if manifest["kind"] == "PodFault"]
        rest = [manifest for manifest in self.resources if manifest["kind"] != "PodFault"]
        try:
            with client.fault(self.name, rest, self.deletions, namespace=self.namespace) as fault:
                try:
                    with interrupts.let_through():
                        await_done(client, rollouts, READY_S)
                    if faults:
                        fault.update(self.resources, self.deletions)
                        with interrupts.let_through():
                            in_force.await_in_force(client, faults)
                    yield
                finally:
                    back = [Rollout.of(client, manifest) for manifest in deployments]
        finally:
            in_force.await_gone(client, faults)
            await_done(client, back, GONE_S)
