"""Exact tests on counts: no normal approximation, no dependency, and no verdict without power.

All tests are two-sided with equal tails: a count is rejected at level `alpha` when either tail's probability is at most
`alpha / 2`, which is also what Clopper and Pearson's interval inverts (Biometrika 26, 1934).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache


def log_pmf(successes: int, trials: int, share: float) -> float:
    """Natural logarithm of the binomial probability of `successes` in `trials` at `share` (0 to 1)."""
    if share in (0.0, 1.0):
        return 0.0 if successes == round(trials * share) else -math.inf
    return (
        math.lgamma(trials + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(trials - successes + 1)
        + successes * math.log(share)
        + (trials - successes) * math.log1p(-share)
    )


def at_most(successes: int, trials: int, share: float) -> float:
    """Probability of `successes` or fewer."""
    return _tail(successes, trials, share) if successes >= 0 else 0.0


def at_least(successes: int, trials: int, share: float) -> float:
    """Probability of `successes` or more."""
    return at_most(trials - successes, trials, 1.0 - share)


def _tail(successes: int, trials: int, share: float) -> float:
    # Terms are added from the largest down and left once they no longer change the sum, so a far tail costs few terms.
    if successes >= trials:
        return 1.0
    if successes > trials * share:
        return 1.0 - _tail(trials - successes - 1, trials, 1.0 - share)
    term = math.exp(log_pmf(successes, trials, share))
    total = term
    odds = (1.0 - share) / share if share else math.inf
    for k in range(successes, 0, -1):
        term *= k / (trials - k + 1) * odds
        total += term
        if term < total * 1e-17:
            break
    return min(total, 1.0)


def p_value(successes: int, trials: int, share: float) -> float:
    """Two-sided exact p-value of seeing `successes` in `trials` if each has probability `share`."""
    return min(1.0, 2.0 * min(at_most(successes, trials, share), at_least(successes, trials, share)))


def interval(successes: int, trials: int, alpha: float) -> tuple[float, float]:
    """Clopper and Pearson's interval for the share, at confidence `1 - alpha`."""
    low = 0.0 if successes == 0 else _solve(lambda s: at_least(successes, trials, s) - alpha / 2)
    high = 1.0 if successes == trials else _solve(lambda s: alpha / 2 - at_most(successes, trials, s))
    return low, high


def _solve(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True, slots=True)
class Region:
    """The counts that a test accepts, `low` to `high` inclusive."""

    low: int
    high: int


def acceptance(trials: int, share: float, alpha: float) -> Region:
    """The counts in `trials` that are not rejected at level `alpha` when the share is `share`."""
    low = _first(lambda k: at_most(k, trials, share) > alpha / 2, 0, trials)
    high = trials - _first(lambda k: at_most(k, trials, 1.0 - share) > alpha / 2, 0, trials)
    return Region(low, high)


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def miss_probability(trials: int, share: float, actual: float, alpha: float) -> float:
    """Probability that a test of `share` at level `alpha` accepts the share `actual`: one minus its power."""
    region = acceptance(trials, share, alpha)
    below = at_most(region.low - 1, trials, actual)
    above = at_least(region.high + 1, trials, actual)
    return max(0.0, 1.0 - below - above) if below + above < 0.5 else _between(region, trials, actual)


def _between(region: Region, trials: int, share: float) -> float:
    # Summed inside the region, because one minus a power near one has no digits left.
    return min(1.0, math.fsum(math.exp(log_pmf(k, trials, share)) for k in range(region.low, region.high + 1)))


@lru_cache(maxsize=256)
def requests_needed(share: float, actual: float, alpha: float, miss: float) -> int:
    """Smallest number of requests from which a test of `share` at `alpha` misses the share `actual` at most at `miss`.

    Raises ValueError when both shares are equal: no number of requests tells them apart.
    """
    if share == actual:
        raise ValueError("a share cannot be told from itself")
    high = 1
    while miss_probability(high, share, actual, alpha) > miss:
        high *= 2
    # The miss probability is a saw-tooth in the number of requests, so a walk over the teeth follows.
    trials = _first(lambda n: miss_probability(n, share, actual, alpha) <= miss, high // 2, high)
    while any(miss_probability(trials + ahead, share, actual, alpha) > miss for ahead in range(6)):
        trials += 1
    return trials
