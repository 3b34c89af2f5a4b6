"""Delays between restarts, as the kubelet's CrashLoopBackOff: none at first, then doubling up to a limit."""

from dataclasses import dataclass

RESET_AFTER_S = 60.0
"""A process that ran this long starts again with no delay."""


@dataclass(slots=True)
class Backoff:
    """Kubernetes begins with 10 s and ends with 5 min; on a laptop somebody watches, so the figures are smaller."""

    first_s: float = 0.5
    limit_s: float = 30.0
    _next_s: float = 0.0

    def after(self, ran_s: float) -> float:
        """Seconds to wait before the restart of a process that ran for `ran_s` seconds."""
        if ran_s >= RESET_AFTER_S:
            self._next_s = 0.0
        delay = self._next_s
        self._next_s = min(self.limit_s, max(self.first_s, 2 * delay))
        return delay
