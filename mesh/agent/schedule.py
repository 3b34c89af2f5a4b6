"""When to renew a certificate, and when to try again. Pure."""

import random
from dataclasses import dataclass, field

_RETRY_FIRST_S, _RETRY_LIMIT_S = 0.1, 10.0
_RESTART_FIRST_S, _RESTART_LIMIT_S = 0.1, 5.0
_CRASHES_IN_A_ROW = 5
_STEADY_S = 30.0


def renewal_in_s(lifetime_s: float, rng: random.Random) -> float:
    """Half of what is left of a certificate's life, give or take a tenth, so that a fleet does not renew at once."""
    return max(0.0, lifetime_s) * rng.uniform(0.45, 0.55)


@dataclass(slots=True)
class Retry:
    """Delays between attempts to reach the control plane: doubling, with jitter."""

    rng: random.Random
    _next_s: float = _RETRY_FIRST_S

    def failed(self) -> float:
        """Seconds until the next attempt."""
        delay = self._next_s
        self._next_s = min(_RETRY_LIMIT_S, 1.5 * delay)
        return delay * self.rng.uniform(0.8, 1.2)

    def succeeded(self) -> None:
        self._next_s = _RETRY_FIRST_S


@dataclass(slots=True)
class Restarts:
    """Restarts of the proxy. After too many crashes in a row the agent gives up, and the platform sees it."""

    _lives_s: list[float] = field(default_factory=list)

    def after(self, ran_s: float) -> float | None:
        """Seconds until the restart of a proxy that ran for `ran_s` seconds; None to give up."""
        self._lives_s = [] if ran_s >= _STEADY_S else [*self._lives_s, ran_s]
        crashes = len(self._lives_s)
        if crashes > _CRASHES_IN_A_ROW:
            return None
        return min(_RESTART_LIMIT_S, _RESTART_FIRST_S * (1 << max(0, crashes - 1)))
