"""A change of a Deployment, from before it until its pods have followed."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from chaos.errors import CannotMeasure
from chaos.waiting import wait_until
from mesh.client import ApiError, Manifest, MeshClient


@dataclass(frozen=True, slots=True)
class Rollout:
    """A Deployment as it was before a change, to see when its pods have followed the change."""

    namespace: str
    name: str
    template: Manifest | None
    pods: frozenset[str]

    @classmethod
    def of(cls, client: MeshClient, manifest: Manifest) -> Rollout:
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


def await_done(client: MeshClient, rollouts: Sequence[Rollout], within_s: float) -> None:
    """Returns when all are done, and every proxy knows of it. Raises CannotMeasure or MeshError."""
    deadline = time.monotonic() + within_s
    for rollout in rollouts:
        if not wait_until(functools.partial(rollout.is_done, client), deadline - time.monotonic()):
            raise CannotMeasure(
                f"Deployment {rollout.namespace}/{rollout.name}: its pods were not as it says within {within_s:g} s; "
                "see `meshdrill status` and `meshdrill logs`"
            )
    if rollouts:
        client.wait_synced()
