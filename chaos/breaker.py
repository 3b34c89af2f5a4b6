"""One host's circuit breaker as its caller sees it: closed, open, half-open. No I/O.

Source: Envoy's outlier detection. A host that failed too often in a row is ejected (open) for the base time, times a
multiplier; it returns at a tick of the detector's interval, on trial (half-open). Being ejected again raises the
multiplier by one, and each tick that the host spends in the balancer lowers it by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

State = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class Sight:
    """One request and what the caller's proxy said of the host after it.

    `begin` lies before the request was sent and `end` after the proxy was asked (seconds of a monotonic clock). `hit`:
    the host answered it, well or `failed`. `ejected`: the proxy keeps the host out of its balancer.
    """

    begin: float
    end: float
    hit: bool
    failed: bool
    ejected: bool


@dataclass(frozen=True, slots=True)
class Span:
    """An ejection: from `begin` to `end` at the longest, and at least `due` seconds long if all is well."""

    begin: float
    end: float
    due: float


@dataclass
class Breaker:
    """Follows a breaker from sight to sight. `base` and `interval` are the DestinationRule's, in seconds.

    For `settle` seconds after an ejection requests may still reach the host: Envoy merges changes of a host's health
    for a second before its workers hear of them (`update_merge_window`).
    """

    base: float
    interval: float
    settle: float
    states: list[State] = field(default_factory=lambda: ["closed"])
    spans: list[Span] = field(default_factory=list)
    trespasses: int = 0
    _opened: float = 0.0
    _seen_open: float = 0.0
    _last_out: float = 0.0
    _multiplier: int = 0

    @property
    def state(self) -> State:
        """The present one."""
        return self.states[-1]

    def see(self, sight: Sight) -> State:
        """Takes the next sight; the state in which its request was answered."""
        if self.state == "open":
            self._see_while_open(sight)
        answered_in = self.state
        if sight.ejected and self.state != "open":
            self._open(sight)
        elif self.state == "half-open" and sight.hit and not sight.failed:
            self.states.append("closed")
        return answered_in

    def _see_while_open(self, sight: Sight) -> None:
        if sight.ejected:
            # A host that was out before the request and is out after it had no business to answer it.
            self.trespasses += sight.hit and sight.begin > self._seen_open + self.settle
            self._last_out = sight.begin
            return
        self.spans.append(Span(self._opened, sight.end, self.base * self._multiplier))
        self.states.append("half-open")

    def _open(self, sight: Sight) -> None:
        # The span begins before the request that tipped it and ends after the return was seen: it can only be measured
        # too long. The time back in the balancer likewise, so that the multiplier is at least this.
        ticks = int((sight.end - self._last_out) / self.interval) if self.spans else 0
        self._multiplier = max(self._multiplier - ticks, 0) + 1
        self._opened, self._seen_open, self._last_out = sight.begin, sight.end, sight.begin
        self.states.append("open")


def problems(breaker: Breaker, expected: Sequence[State]) -> list[str]:
    """How a breaker's history differs from the states expected of it; empty where it does not."""
    found = []
    if tuple(breaker.states) != tuple(expected):
        found.append(f"states seen: {' -> '.join(breaker.states)}; expected: {' -> '.join(expected)}")
    found += [
        f"ejection {count} lasted {span.end - span.begin:.2f} s, less than {span.due:g} s"
        for count, span in enumerate(breaker.spans, 1)
        if span.end - span.begin < span.due
    ]
    if breaker.trespasses:
        found.append(f"{breaker.trespasses} requests reached the host while it was ejected")
    return found
