"""Who wins among resources that speak of the same thing, and who may see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from mesh.api.meta import Resource

_NEWEST = datetime.max.replace(tzinfo=UTC)


def age(resource: Resource) -> tuple[datetime, str, str]:
    """Sort key: the oldest first, equal ages by name, then namespace (Istio's `sortConfigByCreationTime`)."""
    return resource.metadata.creation_timestamp or _NEWEST, resource.name, resource.namespace


def exported(export_to: Sequence[str], owner: str, viewer: str) -> bool:
    """Whether a resource of namespace `owner` with this `exportTo` is seen from `viewer`. Empty means everywhere."""
    if not export_to or "*" in export_to:
        return True
    return viewer in export_to or ("." in export_to and viewer == owner)


def host_matches(pattern: str, host: str) -> bool:
    """`*` matches all, `*.bar` whatever ends in `.bar`, anything else itself."""
    if pattern.startswith("*"):
        return host.endswith(pattern[1:])
    return pattern == host


def hosts_overlap(one: str, other: str) -> bool:
    """Whether some host is matched by both patterns."""
    if one.startswith("*") and other.startswith("*"):
        return one.endswith(other[1:]) or other.endswith(one[1:])
    return host_matches(one, other) or host_matches(other, one)


def specificity(pattern: str) -> tuple[bool, int]:
    """Sort key of host patterns: exact before wildcard, then the longer (Istio's "most specific host")."""
    return not pattern.startswith("*"), len(pattern)
