"""Kinds of our own, for what neither Kubernetes nor Istio has (`meshdrill.dev/v1alpha1`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from mesh.api.fields import Opaque
from mesh.api.meta import DEFAULT_NAMESPACE, Resource

GROUP = "meshdrill.dev"
FAULT_ANNOTATION = "meshdrill.dev/fault"
"""On an object that exists only while a Fault lasts: `<namespace>/<name>` of that Fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReference:
    api_version: str
    kind: str
    name: str
    namespace: str = DEFAULT_NAMESPACE


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSpec:
    """An overlay with a lease.

    `resources` are whole manifests laid over the store, `deletions` hide objects; both end with the lease, which runs
    for `lease_seconds` from the last write of the Fault.
    """

    lease_seconds: float
    resources: tuple[Opaque, ...] = ()
    deletions: tuple[ObjectReference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultStatus:
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault(Resource):
    KIND: ClassVar[str] = "Fault"

    spec: FaultSpec
    status: FaultStatus = field(default_factory=FaultStatus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill(Resource):
    """The schema of `spec` belongs to the drill engine."""

    KIND: ClassVar[str] = "Drill"

    spec: Opaque
    status: Opaque = field(default_factory=dict)
