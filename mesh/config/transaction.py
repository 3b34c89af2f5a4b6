"""One write of the store, computed before anything is kept: new documents, versions, and the events that follow."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from typing import Any

from mesh.api.core import Service
from mesh.api.meshdrill import FAULT_ANNOTATION, Fault
from mesh.config.cluster_ips import NoAddressLeftError, cluster_ip_of, free_address, wants_cluster_ip, with_cluster_ip
from mesh.config.decode import Manifest, decode_object
from mesh.config.history import Event, EventType
from mesh.config.keys import Key, content, key_of, rfc3339, specification, stamped
from mesh.config.overlay import Overlay, effective, lease_of, newest_last, overlay_of
from mesh.config.problems import InvalidError, Problem, format_path

_INSTANT = timedelta(microseconds=1)


class Transaction:
    """Puts and removals over a base that it does not touch.

    Each change gets a version of its own, so that a watch can be continued from any event; and each new object a
    creation time of its own, so that "the oldest wins" has one answer.
    """

    def __init__(
        self, base: Mapping[Key, Manifest], version: int, youngest: datetime, cluster_ips: IPv4Network
    ) -> None:
        self._base = base
        self._cluster_ips = cluster_ips
        self._held: dict[Key, str] | None = None
        self._now = datetime.now(UTC)
        self.changes: dict[Key, Manifest | None] = {}
        self.version = version
        self.youngest = youngest
        self._versions: dict[Key, int] = {}

    def put(self, manifest: Manifest) -> Manifest:
        """Adds or replaces an object. What it says already leaves it, its version included, as it is."""
        key = key_of(manifest)
        base = self._base.get(key)
        raw = self._document(manifest, base)
        if base is not None and content(base.raw) == raw:
            return base
        decoded = decode_object(raw, source=manifest.source)
        if base is None:
            self.youngest = max(self._now, self.youngest + _INSTANT)
            put = stamped(decoded, uid=str(uuid.uuid4()), created=self.youngest, generation=1)
        else:
            meta = base.resource.metadata
            same = specification(base.raw) == specification(raw)
            generation = meta.generation if same else meta.generation + 1
            put = stamped(decoded, uid=meta.uid, created=meta.creation_timestamp, generation=generation)
        self.changes[key] = put = stamped(put, version=self._next(key))
        return put

    def remove(self, key: Key) -> None:
        self.changes[key] = None
        self._held = None
        self._next(key)

    def _document(self, manifest: Manifest, base: Manifest | None) -> dict[str, Any]:
        """What the writer means: assigned metadata left out, status kept where the writer says nothing of it.

        An object read while only a Fault made it, and written back, becomes the writer's own.
        """
        raw = content(manifest.raw)
        annotations = manifest.resource.metadata.annotations
        if FAULT_ANNOTATION in annotations:
            kept = {name: text for name, text in annotations.items() if name != FAULT_ANNOTATION}
            raw["metadata"] = {**raw["metadata"], "annotations": kept}
        if "status" not in raw and base is not None and "status" in base.raw:
            raw["status"] = base.raw["status"]
        if isinstance(manifest.resource, Service):
            raw = self._addressed(manifest, raw)
        if isinstance(manifest.resource, Fault):
            raw["status"] = {"expiresAt": rfc3339(self._now + lease_of(manifest))}
            raw["spec"] = self._with_addressed_services(manifest, raw["spec"])
        return raw

    def _addressed(self, manifest: Manifest, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The Service with the cluster IP that it has, or one of its own. Raises InvalidError for another's."""
        service = manifest.resource
        assert isinstance(service, Service)
        key, held = key_of(manifest), self._cluster_ips_held()
        given = cluster_ip_of(service)
        if given and (owner := next((own for own, address in held.items() if address == given), key)) != key:
            raise _refused(manifest, f"{given} is the cluster IP of {owner} already")
        if wants_cluster_ip(service):
            try:
                given = held.get(key) or free_address(self._cluster_ips, key, held.values())
            except NoAddressLeftError as error:
                raise _refused(manifest, str(error)) from error
        if given:
            held[key] = given
            return with_cluster_ip(raw, given)
        held.pop(key, None)
        return dict(raw)

    def _with_addressed_services(self, manifest: Manifest, spec: Mapping[str, Any]) -> dict[str, Any]:
        """The Fault's spec: a Service that it lays has the address of the one beneath, or one of its own."""
        laid = {key_of(own): own for own in overlay_of(manifest).resources.values()}
        documents = [
            self._addressed(own, own.raw) if isinstance(own.resource, Service) else document
            for own, document in zip(laid.values(), spec.get("resources") or (), strict=True)
        ]
        return {**spec, "resources": documents} if documents else dict(spec)

    def _cluster_ips_held(self) -> dict[Key, str]:
        """Whose each address is: Services' of the store, and of Faults where the store has none of that name."""
        if self._held is None:
            there = [own for own in {**self._base, **self.changes}.values() if own is not None]
            faults = [own for own in there if isinstance(own.resource, Fault)]
            laid = [own for fault in faults for own in overlay_of(fault).resources.values()]
            self._held = {
                key_of(own): address
                for own in (*laid, *there)
                if isinstance(own.resource, Service) and (address := cluster_ip_of(own.resource))
            }
        return self._held

    def _next(self, key: Key) -> int:
        self.version += 1
        self._versions[key] = self.version
        return self.version

    def overlays(self, current: Sequence[Overlay]) -> tuple[Overlay, ...]:
        """The Faults after this transaction. Raises InvalidError for one that cannot be laid."""
        changed = {key: put for key, put in self.changes.items() if key.kind == Fault.KIND}
        kept = [overlay for overlay in current if key_of(overlay.fault) not in changed]
        return newest_last([*kept, *(overlay_of(put) for put in changed.values() if put is not None)])

    def events(
        self, view: Mapping[Key, Manifest], before: Sequence[Overlay], after: Sequence[Overlay]
    ) -> Iterator[Event]:
        """What readers of the effective view see, in order; writes beneath an overlay are not seen."""
        for key in self._affected(before, after):
            base = self.changes[key] if key in self.changes else self._base.get(key)
            event = self._event(key, view.get(key), effective(key, base, after))
            if event is not None:
                yield event

    def _affected(self, before: Sequence[Overlay], after: Sequence[Overlay]) -> Sequence[Key]:
        changed = {*before} ^ {*after}
        return [*self.changes, *sorted({key for overlay in changed for key in overlay.keys} - self.changes.keys())]

    def _event(self, key: Key, old: Manifest | None, new: Manifest | None) -> Event | None:
        if new is None:
            if old is None:
                return None
            version = self._versions.get(key) or self._next(key)
            return Event(EventType.DELETED, stamped(old, version=version), version, old)
        if old is not None and _unversioned(old) == _unversioned(new):
            return None
        version = self._versions.get(key) or self._next(key)
        kind = EventType.ADDED if old is None else EventType.MODIFIED
        return Event(kind, stamped(new, version=version), version, old)


def _refused(manifest: Manifest, message: str) -> InvalidError:
    path = ("spec", "clusterIP")
    source = manifest.source
    return InvalidError([Problem(message, format_path(path), source.file, source.line(path), str(manifest))])


def _unversioned(manifest: Manifest) -> dict[str, Any]:
    metadata = {name: value for name, value in manifest.raw["metadata"].items() if name != "resourceVersion"}
    return {**manifest.raw, "metadata": metadata}
