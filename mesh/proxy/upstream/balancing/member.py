"""A host as balancing sees it: its place in the cluster, and whether it is fit for requests."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from mesh.proxy.upstream.balancing.balancer import Pickable

Locality = tuple[str, str, str]  # region, zone, sub-zone


class Standing(IntEnum):
    """What the checks together say of a host. EXCLUDED ones do not count at all until they are checked."""

    HEALTHY = 0
    DEGRADED = 1
    UNHEALTHY = 2
    EXCLUDED = 3

    @property
    def counts(self) -> bool:
        return self is not Standing.EXCLUDED


class Member(Pickable, Protocol):
    """A host with its place in the cluster."""

    standing: Standing

    @property
    def priority(self) -> int: ...
    @property
    def locality(self) -> Locality: ...
    @property
    def locality_weight(self) -> int: ...
