"""The versioned store of configuration, with Kubernetes' semantics and Faults as overlays.

Readers see the effective view: what was written, with every active Fault laid over it. Writers write beneath the
overlays. All of it is held in memory; SQLite makes it outlive the process.

Thread-safety: none. A Store belongs to the thread that made it; writes from another raise. Every method is synchronous
and takes microseconds, so an event loop calls it directly; a reader between two calls sees whole transactions only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path

from mesh.api.core import Service
from mesh.api.meshdrill import FAULT_ANNOTATION, Fault
from mesh.config.cluster_ips import DEFAULT_RANGE, wants_cluster_ip
from mesh.config.database import Database
from mesh.config.decode import Manifest, decode_object
from mesh.config.history import EventType, History, Match, Subscription
from mesh.config.keys import AlreadyExistsError, ConflictError, Key, NotFoundError, StoreError, key_of, stamped
from mesh.config.overlay import effective, newest_last, overlay_of
from mesh.config.problems import InvalidError, Problem
from mesh.config.transaction import Transaction

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class Store:
    """Objects by key. `path` None keeps nothing beyond the process. Services get addresses of `cluster_ips`."""

    def __init__(
        self, path: Path | None = None, *, forget_pods: bool = False, cluster_ips: IPv4Network = DEFAULT_RANGE
    ) -> None:
        self._cluster_ips = cluster_ips
        self._database = Database(path)
        version, documents = self._database.load()
        try:
            restored = [decode_object(document) for document in documents]
            self._overlays = newest_last(overlay_of(found) for found in restored if found.kind.type is Fault)
        except InvalidError as error:
            self._database.close()
            raise StoreError(f"the store holds an object that this version cannot read: {error}") from error
        self._base = {key_of(manifest): manifest for manifest in restored}
        created = [manifest.resource.metadata.creation_timestamp for manifest in self._base.values()]
        self._youngest = max((moment for moment in created if moment is not None), default=_BEGINNING)
        self._history = History(version)
        self._view: dict[Key, Manifest] = {}
        self._kinds: dict[str, set[Key]] = {}
        for key, manifest in self._base.items():
            self._show(key, manifest)
        for key in {key for overlay in self._overlays for key in overlay.keys}:
            seen = effective(key, self._base.get(key), self._overlays)
            self._show(key, seen and stamped(seen, version=version))
        if forget_pods:
            self._remove([key for key in self._base if key.kind == "Pod"])
        # Written by a version that gave Services no addresses.
        self._write([own for own in restored if isinstance(own.resource, Service) and wants_cluster_ip(own.resource)])

    # Reading

    @property
    def version(self) -> int:
        """The resourceVersion of the whole store: that of its last write."""
        return self._history.version

    def get(self, key: Key) -> Manifest:
        """The object as the mesh sees it. Raises NotFoundError."""
        found = self._view.get(key)
        if found is None:
            raise NotFoundError(f"{key} not found")
        return found

    def list(self, kind: str, namespace: str | None = None) -> list[Manifest]:
        """All objects of a kind as the mesh sees them, by namespace and name; in one namespace, or in all."""
        keys = sorted(self._kinds.get(kind, ()))
        return [self._view[key] for key in keys if namespace is None or key.namespace == namespace]

    def everything(self) -> Sequence[Manifest]:
        """All objects of all kinds as the mesh sees them."""
        return [self._view[key] for key in sorted(self._view)]

    def watch(self, since: int | None = None, match: Match | None = None) -> Subscription:
        """Events after `since` (default: from now) of the objects that match. Raises GoneError."""
        return Subscription(self._history, self.version if since is None else since, match)

    # Writing

    def create(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Adds an object. Raises AlreadyExistsError, and InvalidError for a Fault that cannot be laid."""
        key = key_of(manifest)
        if key in self._base:
            hidden = key not in self._view
            raise AlreadyExistsError(f"{key} already exists{', hidden by a Fault' if hidden else ''}")
        return self._write([manifest], dry_run)[0]

    def replace(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Puts an object in place of the one there. Raises NotFoundError, and ConflictError for a stale version."""
        key = key_of(manifest)
        if key not in self._base:
            self.get(key)
        self._check_fresh(manifest)
        return self._write([manifest], dry_run)[0]

    def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Creates or replaces. An object that is so already keeps its version. Raises ConflictError."""
        return self.apply_all([manifest], dry_run=dry_run)[0]

    def apply_all(self, manifests: Sequence[Manifest], *, dry_run: bool = False) -> Sequence[Manifest]:
        """Applies all in one transaction, or none. Afterwards `version` covers them all. Raises as `apply` does."""
        seen: set[Key] = set()
        for manifest in manifests:
            if key_of(manifest) in seen:
                where = manifest.source
                raise InvalidError([Problem("is given twice; keep one", "", where.file, where.line(), str(manifest))])
            seen.add(key_of(manifest))
            self._check_fresh(manifest)
        return self._write(manifests, dry_run)

    def delete(self, key: Key, *, dry_run: bool = False) -> Manifest:
        """Removes an object and returns it as it was. Raises NotFoundError, or ConflictError for an overlay's own."""
        base = self._base.get(key)
        if base is None:
            fault = self.get(key).resource.metadata.annotations[FAULT_ANNOTATION]
            raise ConflictError(f"{key} exists only while the Fault {fault} lasts; delete the Fault")
        if not dry_run:
            self._remove([key])
        return base

    def close(self) -> None:
        self._database.close()

    def _check_fresh(self, manifest: Manifest) -> None:
        """An object read, changed and written back must be the one that is still there, seen or beneath an overlay."""
        stated = manifest.resource.metadata.resource_version
        key = key_of(manifest)
        there = [found for found in (self._view.get(key), self._base.get(key)) if found is not None]
        if stated and all(stated != found.resource.metadata.resource_version for found in there):
            now = f"it is now at {there[0].resource.metadata.resource_version}" if there else "it is gone"
            raise ConflictError(f"{key} was read at resourceVersion {stated}, {now}: read it again")

    def _write(self, manifests: Sequence[Manifest], dry_run: bool = False) -> Sequence[Manifest]:
        transaction = Transaction(self._base, self.version, self._youngest, self._cluster_ips)
        written = [transaction.put(manifest) for manifest in manifests]
        self._commit(transaction, dry_run)
        return written

    def _remove(self, keys: Sequence[Key]) -> None:
        transaction = Transaction(self._base, self.version, self._youngest, self._cluster_ips)
        for key in keys:
            transaction.remove(key)
        self._commit(transaction)

    def _commit(self, transaction: Transaction, dry_run: bool = False) -> None:
        overlays = transaction.overlays(self._overlays)
        events = list(transaction.events(self._view, self._overlays, overlays))
        if dry_run or not transaction.changes:
            return
        documents = {key: put.raw if put else None for key, put in transaction.changes.items()}
        self._database.commit(documents, transaction.version)
        for key, put in transaction.changes.items():
            if put is None:
                del self._base[key]
            else:
                self._base[key] = put
        self._overlays, self._youngest = overlays, transaction.youngest
        for event in events:
            self._show(key_of(event.manifest), None if event.type is EventType.DELETED else event.manifest)
        self._history.append(events, transaction.version)

    def _show(self, key: Key, manifest: Manifest | None) -> None:
        if manifest is None:
            self._view.pop(key, None)
            self._kinds.get(key.kind, set()).discard(key)
        else:
            self._view[key] = manifest
            self._kinds.setdefault(key.kind, set()).add(key)

    # Leases

    def next_expiry(self) -> datetime | None:
        """When the first lease of a Fault ends; the owner calls `expire` then."""
        return min((moment for _, moment in self._leases()), default=None)

    def expire(self, now: datetime) -> Sequence[Key]:
        """Lifts every Fault whose lease has ended, in one transaction; also those that ended while nobody ran."""
        ended = [key for key, moment in self._leases() if moment <= now]
        self._remove(ended)
        return ended

    def _leases(self) -> Iterator[tuple[Key, datetime]]:
        for overlay in self._overlays:
            fault = overlay.fault.resource
            assert isinstance(fault, Fault)
            if fault.status.expires_at is not None:
                yield key_of(overlay.fault), fault.status.expires_at
