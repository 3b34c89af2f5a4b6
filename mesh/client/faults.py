"""A fault in the mesh for as long as a `with` block runs: an overlay with a lease that this process keeps renewing."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from mesh.client.errors import ApiError, FaultLost, MeshNotRunning
from mesh.client.types import Manifest

if TYPE_CHECKING:
    from mesh.client.client import MeshClient


_RETRY_S = 0.25


class Fault:
    """A context manager; see `MeshClient.fault`. If this process dies, the lease ends the fault by itself."""

    def __init__(
        self,
        client: MeshClient,
        name: str,
        namespace: str,
        resources: Iterable[Manifest],
        deletions: Iterable[Manifest],
        *,
        lease_s: int,
        sync_timeout_s: float,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self._client = client
        self._lease_s = lease_s
        self._sync_timeout_s = sync_timeout_s
        self._manifest = self._render(resources, deletions)
        self._lock = threading.Lock()  # An update and a renewal must not overtake each other.
        self._over = threading.Event()
        self._lost: Exception | None = None
        self._keeper = threading.Thread(target=self._keep, name=f"fault {namespace}/{name}", daemon=True)

    def __enter__(self) -> Fault:
        created = self._client.create(self._manifest)
        self._keeper.start()
        try:
            self._wait_synced(created)
        except BaseException:
            self._lift()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            version = self._lift()
            if version is not None:
                self._client.wait_synced(version, self._sync_timeout_s)
        except Exception as undone:
            if error is None:
                raise
            error.add_note(f"Also, lifting fault {self.name} failed: {undone}")
        if self._lost is None:
            return
        lost = FaultLost(f"fault {self.name} ended before its block did, so what was seen in it proves nothing")
        if error is None:
            raise lost from self._lost
        error.add_note(str(lost))

    def update(self, resources: Iterable[Manifest] = (), deletions: Iterable[Manifest] = ()) -> None:
        """Replace the overlay's whole content and wait until every proxy has it. Raises FaultLost if it is over."""
        manifest = self._render(resources, deletions)
        with self._lock:
            try:
                replaced = self._client.replace(manifest)
            except ApiError as error:
                if error.status != 404:
                    raise
                raise FaultLost(f"fault {self.name} has ended") from error
            self._manifest = manifest
        self._wait_synced(replaced)

    def _keep(self) -> None:
        pause_s = self._lease_s / 3
        while not self._over.wait(pause_s):
            pause_s = self._lease_s / 3
            try:
                with self._lock:
                    self._client.replace(self._manifest)
            except MeshNotRunning:
                # Drills kill the control plane too. Should the lease end before it is back, a 404 will say so.
                pause_s = min(pause_s, _RETRY_S)
            except Exception as error:
                self._lost = error
                return

    def _lift(self) -> str | None:
        """End the overlay; the resourceVersion from which the mesh is as it was, None if it was over before."""
        self._over.set()
        self._keeper.join()
        try:
            return self._client.delete("Fault", self.name, self.namespace)
        except ApiError as error:
            if error.status != 404:
                raise
            self._lost = self._lost or error
            return None

    def _wait_synced(self, fault: Manifest) -> None:
        self._client.wait_synced(fault["metadata"]["resourceVersion"], self._sync_timeout_s)

    def _render(self, resources: Iterable[Manifest], deletions: Iterable[Manifest]) -> Manifest:
        return {
            "apiVersion": "meshdrill.dev/v1alpha1",
            "kind": "Fault",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "leaseSeconds": self._lease_s,
                "resources": list(resources),
                "deletions": [_reference(manifest) for manifest in deletions],
            },
        }


def _reference(manifest: Manifest) -> Manifest:
    """The four words that name an object, from its manifest or from themselves."""
    names = manifest.get("metadata", manifest)
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "namespace": names.get("namespace", "default"),
        "name": names["name"],
    }
