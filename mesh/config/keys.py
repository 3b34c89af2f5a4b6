"""How the store names objects, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from mesh.config.decode import Manifest
from mesh.config.problems import ConfigError

_ASSIGNED = ("uid", "resourceVersion", "creationTimestamp", "generation", "selfLink", "managedFields")


class Key(NamedTuple):
    """An object's name. Kind names are unique in `mesh.api.kinds`; `namespace` is empty for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class StoreError(ConfigError):
    """Base of the store's refusals; on its own, the database could not be used."""


class NotFoundError(StoreError):
    """There is no such object in the effective view."""


class AlreadyExistsError(StoreError):
    """An object of that name exists, perhaps hidden by a Fault."""


class ConflictError(StoreError):
    """The object changed since the caller read it, or exists only while a Fault lasts."""


class GoneError(StoreError):
    """The history no longer reaches back to the version asked for: list again."""


def key_of(manifest: Manifest) -> Key:
    """The key of an object."""
    meta = manifest.resource.metadata
    return Key(manifest.kind.name, meta.namespace, meta.name)


def rfc3339(moment: datetime) -> str:
    """UTC with microseconds, so that text order is time order."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def stamped(
    manifest: Manifest,
    *,
    uid: str | None = None,
    version: int | None = None,
    created: datetime | None = None,
    generation: int | None = None,
) -> Manifest:
    """The object with metadata that the store assigns, in both its forms. None leaves a field as it is."""
    given: dict[str, tuple[str, Any, Any]] = {
        "uid": ("uid", uid, uid),
        "resource_version": ("resourceVersion", str(version), None if version is None else str(version)),
        "creation_timestamp": ("creationTimestamp", created, rfc3339(created) if created else None),
        "generation": ("generation", generation, generation),
    }
    fields = {name: typed for name, (_, typed, plain) in given.items() if plain is not None}
    plain = {name: plain for name, _, plain in given.values() if plain is not None}
    resource = replace(manifest.resource, metadata=replace(manifest.resource.metadata, **fields))
    raw = {**manifest.raw, "metadata": {**manifest.raw["metadata"], **plain}}
    return replace(manifest, resource=resource, raw=raw)


def content(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A document without the metadata that the store assigns: what a writer means."""
    metadata = {name: value for name, value in raw["metadata"].items() if name not in _ASSIGNED}
    return {**raw, "metadata": metadata}


def specification(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What counts for `generation`: everything but metadata and status."""
    return {name: value for name, value in raw.items() if name not in ("metadata", "status", "apiVersion")}
