"""The times that an exchange may run out of, folded into the one deadline that the sweep looks at."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from mesh.proxy.http.rescue import Failure, RequestTimedOut, StreamIdle, TryTimedOut

if TYPE_CHECKING:
    from mesh.proxy.runtime import Worker


class Timeouts:
    """Base of `Stream`: the route's timeout, that of one try, the idle timeout, and how long it is parked.

    Moments are monotonic seconds, `inf` while they do not run; durations are seconds, 0 for none. A base class and not
    a part: it holds no reference back to its exchange, so an exchange that is over is freed without the collector.
    """

    __slots__ = (
        "_on_gone", "_on_wake", "_route_deadline", "_wake", "cutoff", "deadline", "idle_at", "idle_timeout",
        "route_timeout", "try_deadline", "worker",
    )  # fmt: skip

    def __init__(self, worker: Worker, now: float, idle_timeout: float) -> None:
        self.worker = worker
        self.deadline = self.cutoff = self.try_deadline = self._route_deadline = self._wake = inf
        self.route_timeout = 0.0
        self.idle_at = now  # when something last moved
        self.idle_timeout = idle_timeout
        self._on_gone: Callable[[], None] | None = None

    def timed_out(self, failure: Failure) -> None:
        """Told when one of the times has run out: RequestTimedOut, TryTimedOut or StreamIdle."""
        raise NotImplementedError

    def cut_off(self, now: float) -> None:
        """Told when `cutoff` has passed, the moment at which the connection manager looks at the stream again."""
        raise NotImplementedError

    def park(self, seconds: float, wake: Callable[[], None], gone: Callable[[], None] | None = None) -> None:
        """Wait for `seconds`, then call `wake`; or `gone`, if the exchange ends before."""
        self._wake = time.monotonic() + seconds
        self._on_wake = wake
        self._on_gone = gone
        self.rearm()

    def start_route_timeout(self) -> None:
        """The request is complete and has its route: from now on its timeout runs."""
        if self.route_timeout:
            self._route_deadline = time.monotonic() + self.route_timeout
            self.rearm()
        elif self.idle_timeout:
            self.rearm()

    def stop_route_timeout(self) -> None:
        """The response is one that takes its time."""
        self._route_deadline = inf

    def start_try_timeout(self, seconds: float) -> None:
        """The try's request is on its way."""
        self.try_deadline = time.monotonic() + seconds
        self.rearm()

    def rearm(self) -> None:
        """Join the sweep with the earliest moment."""
        earliest = self._route_deadline
        if self.try_deadline < earliest:  # noqa: PLR1730 - min() costs three times the comparison
            earliest = self.try_deadline
        if self._wake < earliest:  # noqa: PLR1730
            earliest = self._wake
        if self.cutoff < earliest:  # noqa: PLR1730
            earliest = self.cutoff
        if self.idle_timeout:
            idle = self.idle_at + self.idle_timeout
            if idle < earliest:  # noqa: PLR1730
                earliest = idle
        self.deadline = earliest
        self.worker.deadlines.add(self)

    def stop_timeouts(self) -> None:
        """The exchange is over."""
        self.worker.deadlines.discard(self)
        if self._on_gone is not None:
            self._on_gone()

    def deadline_passed(self, now: float) -> None:
        """The sweep's call."""
        if self._wake <= now:
            self._wake = inf
            self._on_gone = None
            self.rearm()
            self._on_wake()
        elif self._route_deadline <= now:
            self._route_deadline = inf
            self.timed_out(RequestTimedOut())
        elif self.try_deadline <= now:
            self.try_deadline = inf
            self.rearm()
            self.timed_out(TryTimedOut())
        elif self.cutoff <= now:
            self.cut_off(now)
        elif self.idle_timeout and self.idle_at + self.idle_timeout <= now:
            self.timed_out(StreamIdle())
        else:
            self.rearm()  # something moved since the deadline was set
