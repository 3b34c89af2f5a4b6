"""The effective view: what the store has, with the active Faults laid over it. Pure functions.

The newest Fault that names an object decides about it, by its manifest or by hiding it; an object that no Fault names
is as stored.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from mesh.api.kinds import UnknownKindError, by_api_version
from mesh.api.meshdrill import FAULT_ANNOTATION, Fault, ObjectReference
from mesh.config.decode import Manifest, decode_object
from mesh.config.keys import Key, content, key_of, stamped
from mesh.config.problems import InvalidError, Problem

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
        raise InvalidError([_problem(manifest, "spec.leaseSeconds", message)])
    return timedelta(seconds=seconds)


def overlay_of(manifest: Manifest) -> Overlay:
    """Decodes a Fault's resources and deletions. Raises InvalidError with the path of each problem in the Fault."""
    fault = manifest.resource
    assert isinstance(fault, Fault)
    problems: list[Problem] = []
    resources: dict[Key, Manifest] = {}
    for index, document in enumerate(fault.spec.resources):
        place = f"spec.resources[{index}]"
        try:
            laid = decode_object(document, fault.namespace)
        except InvalidError as error:
            problems += [_within(manifest, place, problem) for problem in error.problems]
            continue
        if laid.kind.type is Fault:
            problems.append(_problem(manifest, place, "a Fault cannot lay another Fault over the store"))
        elif key_of(laid) in resources:
            problems.append(_problem(manifest, place, f"{laid} is laid twice; keep one"))
        resources[key_of(laid)] = laid
    deletions = {_reference_key(manifest, index, ref, problems) for index, ref in enumerate(fault.spec.deletions)}
    both = sorted(str(key) for key in deletions & resources.keys())
    if both:
        problems.append(_problem(manifest, "spec.deletions", f"{both[0]} is also among the resources; keep one"))
    if problems:
        raise InvalidError(problems)
    return Overlay(manifest, resources, frozenset(key for key in deletions if key.kind))


def _reference_key(manifest: Manifest, index: int, ref: ObjectReference, problems: list[Problem]) -> Key:
    try:
        kind = by_api_version(ref.api_version, ref.kind)
    except UnknownKindError as error:
        problems.append(_problem(manifest, f"spec.deletions[{index}]", str(error)))
        return Key("", "", "")
    if kind.type is Fault:
        problems.append(_problem(manifest, f"spec.deletions[{index}]", "a Fault cannot hide a Fault; delete it"))
    return Key(kind.name, ref.namespace if kind.namespaced else "", ref.name)


def _problem(manifest: Manifest, path: str, message: str) -> Problem:
    return Problem(message, path, manifest.source.file, manifest.source.line(), str(manifest))


def _within(manifest: Manifest, place: str, problem: Problem) -> Problem:
    path = f"{place}.{problem.path}" if problem.path else place
    return replace(problem, path=path, resource=str(manifest), file=manifest.source.file, line=manifest.source.line())


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
