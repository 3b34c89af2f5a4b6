"""Slow start: a host that has just become healthy gets less than its share for a while."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mesh.proxy.upstream.balancing.balancer import Pickable


@dataclass(frozen=True, slots=True)
class SlowStart:
    """`SlowStartConfig`: `window` in seconds, `least` the share of its weight that a host begins with.

    `clock` gives monotonic seconds: how time passes is this class's subject.
    """

    window: float
    clock: Callable[[], float]
    aggression: float = 1.0
    least: float = 0.1

    def holds_back(self, host: Pickable) -> bool:
        """Whether the host is still in its window."""
        return host.healthy_since is not None and self.clock() - host.healthy_since < self.window

    def factor(self, host: Pickable) -> float:
        """What the host's weight is multiplied by now."""
        if host.healthy_since is None:
            return 1.0
        age = self.clock() - host.healthy_since
        if age >= self.window:
            return 1.0
        share: float = (max(age, 0.001) / self.window) ** (1 / self.aggression)
        return max(share, self.least)
