"""A phase's resources over the mesh, from the moment all of it has taken them until all of it is as before."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from chaos import in_force
from chaos.errors import CannotMeasure
from chaos.interrupts import Interrupts
from chaos.waiting import wait_until
from mesh.client import ApiError, Manifest, MeshClient

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
        rollouts = [_Rollout.of(client, manifest) for manifest in deployments]
        back = rollouts
        faults = [manifest for manifest in self.resources if manifest["kind"] == "PodFault"]
        rest = [manifest for manifest in self.resources if manifest["kind"] != "PodFault"]
        try:
            with client.fault(self.name, rest, self.deletions, namespace=self.namespace) as fault:
                try:
                    with interrupts.let_through():
                        _await(client, rollouts, READY_S)
                    if faults:
                        fault.update(self.resources, self.deletions)
                        with interrupts.let_through():
                            in_force.await_in_force(client, faults)
                    yield
                finally:
                    back = [_Rollout.of(client, manifest) for manifest in deployments]
        finally:
            in_force.await_gone(client, faults)
            _await(client, back, GONE_S)


@dataclass(frozen=True, slots=True)
class _Rollout:
    """A Deployment as it was before a change, to see when its pods have followed the change."""

    namespace: str
    name: str
    template: Manifest | None
    pods: frozenset[str]

    @classmethod
    def of(cls, client: MeshClient, manifest: Manifest) -> _Rollout:
        """The Deployment that the manifest names, as it is now."""
        metadata = manifest["metadata"]
        namespace, name = metadata.get("namespace", "default"), metadata["name"]
        present = _deployment(client, namespace, name)
        pods = frozenset(pod.uid for pod in client.pods(namespace=namespace) if pod.workload == name)
        return cls(namespace, name, present["spec"]["template"] if present else None, pods)

    def is_done(self, client: MeshClient) -> bool:
        """Whether exactly the pods that are wanted now are there, ready, and made from the present template."""
        present = _deployment(client, self.namespace, self.name)
        pods = [pod for pod in client.pods(namespace=self.namespace) if pod.workload == self.name]
        if present is None:
            return not pods
        stale = present["spec"]["template"] != self.template and any(pod.uid in self.pods for pod in pods)
        return not stale and len(pods) == present["spec"].get("replicas", 1) and all(pod.ready for pod in pods)


def _deployment(client: MeshClient, namespace: str, name: str) -> Manifest | None:
    try:
        return client.get("Deployment", name, namespace)
    except ApiError as error:
        if error.status != 404:
            raise
        return None


def _await(client: MeshClient, rollouts: Sequence[_Rollout], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    for rollout in rollouts:
        if not wait_until(functools.partial(rollout.is_done, client), deadline - time.monotonic()):
            raise CannotMeasure(
                f"Deployment {rollout.namespace}/{rollout.name}: its pods were not as it says within {within_s:g} s; "
                "see `meshdrill status` and `meshdrill logs`"
            )
    if rollouts:
        client.wait_synced()
