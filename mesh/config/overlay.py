"""The effective view: what the store has, with the active Faults laid over it. Pure functions.

The newest Fault that names an object decides about it, by its manifest or by hiding it; an object that no Fault names
is as stored.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from mesh.api.kinds import UnknownKindError, by_api_version
from mesh.api.meshdrill import FAULT_ANNOTATION, Fault, ObjectReference
from mesh.config.decode import Manifest, decode_object
from mesh.config.keys import Key, content, key_of, stamped
from mesh.config.problems import InvalidError, Path, Problem, Source, format_path

MAX_LEASE_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """One Fault, decoded: the manifests it lays over the store and the keys it hides."""

    fault: Manifest
    resources: Mapping[Key, Manifest]
    deletions: frozenset[Key]

    @property
    def keys(self) -> frozenset[Key]:
        return self.deletions | self.resources.keys()


def lease_of(manifest: Manifest) -> timedelta:
    """How long a Fault lasts after each write of it. Raises InvalidError for more than a day, or nothing."""
    fault = manifest.resource
    assert isinstance(fault, Fault)
    seconds = fault.spec.lease_seconds
    if not 0 < seconds <= MAX_LEASE_SECONDS:
        message = f"must be more than 0 and at most {MAX_LEASE_SECONDS} seconds, not {seconds:g}"
        raise InvalidError([_problem(manifest, ("spec", "leaseSeconds"), message)])
    return timedelta(seconds=seconds)


def overlay_of(manifest: Manifest) -> Overlay:
    """Decodes a Fault's resources and deletions. Raises InvalidError with the path of each problem in the Fault."""
    overlay, problems = _read(manifest)
    if problems:
        raise InvalidError(problems)
    return overlay


def fault_problems(manifest: Manifest, check: Callable[[Manifest], Iterable[Problem]]) -> list[Problem]:
    """What is wrong with a Fault: its lease, what it hides, and by `check` what it lays over the store."""
    overlay, problems = _read(manifest)
    try:
        lease_of(manifest)
    except InvalidError as error:
        problems += error.problems
    for laid in overlay.resources.values():
        problems += [_within(manifest, laid.source, problem) for problem in check(laid)]
    return problems


def _read(manifest: Manifest) -> tuple[Overlay, list[Problem]]:
    fault = manifest.resource
    assert isinstance(fault, Fault)
    problems: list[Problem] = []
    resources: dict[Key, Manifest] = {}
    for index, document in enumerate(fault.spec.resources):
        path: Path = ("spec", "resources", index)
        source = replace(manifest.source, root=manifest.source.root + path)
        try:
            laid = decode_object(document, fault.namespace, source)
        except InvalidError as error:
            problems += [_within(manifest, source, problem) for problem in error.problems]
            continue
        if laid.kind.type is Fault:
            problems.append(_problem(manifest, path, "a Fault cannot lay another Fault over the store"))
        elif key_of(laid) in resources:
            problems.append(_problem(manifest, path, f"{laid} is laid twice; keep one"))
        resources[key_of(laid)] = laid
    deletions: set[Key] = set()
    for index, reference in enumerate(fault.spec.deletions):
        path = ("spec", "deletions", index)
        try:
            key = _reference_key(reference)
        except UnknownKindError as error:
            problems.append(_problem(manifest, path, str(error)))
            continue
        if key.kind == Fault.KIND:
            problems.append(_problem(manifest, path, "a Fault cannot hide a Fault; delete it"))
        if key in resources:
            problems.append(_problem(manifest, path, f"{key} is also among the resources; keep one"))
        deletions.add(key)
    return Overlay(manifest, resources, frozenset(deletions)), problems


def _reference_key(reference: ObjectReference) -> Key:
    kind = by_api_version(reference.api_version, reference.kind)
    return Key(kind.name, reference.namespace if kind.namespaced else "", reference.name)


def _problem(manifest: Manifest, path: Path, message: str) -> Problem:
    source = manifest.source
    return Problem(message, format_path(path), source.file, source.line(path), str(manifest))


def _within(manifest: Manifest, source: Source, problem: Problem) -> Problem:
    """A problem of a laid manifest as a problem of its Fault; `source` is the laid manifest's."""
    place = format_path(source.root[len(manifest.source.root) :])
    return replace(problem, path=f"{place}.{problem.path}" if problem.path else place, resource=str(manifest))


def newest_last(overlays: Iterable[Overlay]) -> tuple[Overlay, ...]:
    """Faults in the order of their creation; the store gives no two objects the same time."""
    return tuple(sorted(overlays, key=lambda overlay: str(overlay.fault.raw["metadata"]["creationTimestamp"])))


def effective(key: Key, base: Manifest | None, overlays: Sequence[Overlay]) -> Manifest | None:
    """The object that a reader sees, or None. `overlays` are in creation order."""
    for overlay in reversed(overlays):
        if key in overlay.deletions:
            return None
        if laid := overlay.resources.get(key):
            return _laid(laid, base, overlay.fault)
    return base


def _laid(laid: Manifest, base: Manifest | None, fault: Manifest) -> Manifest:
    """Identity, age and status stay those of the object beneath; without one, the Fault's own stand in."""
    meta = fault.resource.metadata
    laid = replace(laid, raw=content(laid.raw))
    if base is None:
        uid = str(uuid.uuid5(uuid.UUID(meta.uid), str(key_of(laid))))
        marked = _annotated(laid, f"{meta.namespace}/{meta.name}")
        return stamped(marked, uid=uid, created=meta.creation_timestamp, generation=meta.generation)
    if "status" in base.raw and "status" not in laid.raw:
        laid = decode_object({**laid.raw, "status": base.raw["status"]})
    beneath = base.resource.metadata
    return stamped(laid, uid=beneath.uid, created=beneath.creation_timestamp, generation=meta.generation)


def _annotated(manifest: Manifest, fault: str) -> Manifest:
    meta = manifest.resource.metadata
    annotations = {**meta.annotations, FAULT_ANNOTATION: fault}
    resource = replace(manifest.resource, metadata=replace(meta, annotations=annotations))
    raw = {**manifest.raw, "metadata": {**manifest.raw["metadata"], "annotations": annotations}}
    return replace(manifest, resource=resource, raw=raw)
