"""What a new snapshot may change for those who were served from the former one."""

from __future__ import annotations

from typing import NamedTuple


class Touched(NamedTuple):
    """What may differ between two snapshots: the clusters whose endpoints do (None: any), and whether routes do."""

    endpoints: frozenset[str] | None = None
    routes: bool = True

    def __or__(self, other: object) -> Touched:
        """What may differ over two steps."""
        if not isinstance(other, Touched):
            return NotImplemented
        both = self.endpoints is not None and other.endpoints is not None
        endpoints = frozenset((*(self.endpoints or ()), *(other.endpoints or ()))) if both else None
        return Touched(endpoints, self.routes or other.routes)


NOTHING_TOUCHED = Touched(frozenset(), routes=False)
