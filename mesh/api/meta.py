"""What every resource has: identity, labels, versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMeta:
    """Kubernetes' ObjectMeta. The store assigns uid, resource_version, creation_timestamp and generation."""

    name: str = ""
    namespace: str = DEFAULT_NAMESPACE
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Base of all kinds. `KIND` is the kind's name; `api_version` is the one that the user wrote."""

    KIND: ClassVar[str] = ""

    api_version: str
    metadata: ObjectMeta

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelectorRequirement:
    """One of Kubernetes' set-based requirements: In, NotIn, Exists, DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelector:
    """Kubernetes' LabelSelector: all labels and all expressions must hold; an empty one matches everything."""

    match_labels: Mapping[str, str] = field(default_factory=dict)
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSelector:
    """istio.type.v1beta1.WorkloadSelector."""

    match_labels: Mapping[str, str] = field(default_factory=dict)
