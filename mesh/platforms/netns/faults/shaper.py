"""When each packet of a queue may go on. Pure: time and chance are given."""

import random
from dataclasses import dataclass, field

from mesh.api.pod_fault import Bandwidth, Delay

BACKLOG_BYTES = 128 * 1024
"""What waits for its turn on a slow link at most; more is dropped, as by a router, and TCP slows down."""


@dataclass(slots=True)
class Shaper:
    """One link in one direction. Packets keep their order, so jitter delays but never reorders.

    `bits_per_s` of 0 is no limit.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bits_per_s: int = 0
    chance: random.Random = field(default_factory=random.Random)
    _free_at: float = 0.0
    _last_due: float = 0.0

    @classmethod
    def of(cls, effect: Delay | Bandwidth) -> "Shaper":
        if isinstance(effect, Bandwidth):
            return cls(bits_per_s=effect.rate)
        return cls(effect.latency.total_seconds(), effect.jitter.total_seconds())

    def due(self, size: int, now: float) -> float | None:
        """When a packet of `size` bytes that came `now` goes on; None when it is dropped. Never before its time."""
        waited = now
        if self.bits_per_s:
            begins = max(now, self._free_at)
            backlog = (begins - now) * self.bits_per_s / 8
            if backlog and backlog + size > BACKLOG_BYTES:
                return None
            waited = self._free_at = begins + size * 8 / self.bits_per_s
        delay = self.latency_s + self.chance.uniform(-self.jitter_s, self.jitter_s)
        self._last_due = max(self._last_due, waited + max(0.0, delay))
        return self._last_due
