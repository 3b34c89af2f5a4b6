"""How long to wait before the next connection to the control plane."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Envoy's jittered exponential back-off: any time below `base_s * 2**tries`, which never exceeds `limit_s`.

    Full jitter keeps a thousand sidecars from coming back to a restarted control plane in step.
    """

    base_s: float
    limit_s: float
    random: random.Random = field(default_factory=random.Random)
    _ceiling_s: float = 0.0

    def reset(self) -> None:
        """The last connection was good: begin anew."""
        self._ceiling_s = 0.0

    def next_s(self) -> float:
        """Seconds to wait now."""
        self._ceiling_s = min(self.limit_s, self._ceiling_s * 2 or self.base_s)
        return self.random.uniform(0.0, self._ceiling_s)
