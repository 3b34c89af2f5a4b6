"""Envoy's `connection_keepalive` of HTTP/2: PINGs in an interval, and an end for who does not answer them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from mesh.proxy.deadlines import Deadlines


@dataclass(frozen=True, slots=True)
class KeepaliveConfig:
    """Seconds; `jitter` is the share of the interval that is added at random, at most."""

    interval: float
    timeout: float
    jitter: float


class Keepalive:
    """One connection's. It is in the sweep until `stop`."""

    __slots__ = ("_config", "_deadlines", "_is_awaiting", "_number", "_ping", "_unanswered", "deadline")

    def __init__(
        self,
        deadlines: Deadlines,
        config: KeepaliveConfig,
        ping: Callable[[bytes], None],
        unanswered: Callable[[], None],
    ) -> None:
        self._deadlines = deadlines
        self._config = config
        self._ping = ping
        self._unanswered = unanswered
        self._number = 0
        self._is_awaiting = False
        self.deadline = 0.0
        self._wait()

    def stop(self) -> None:
        self._deadlines.discard(self)

    def answered(self) -> None:
        """A PING was acknowledged."""
        if self._is_awaiting:
            self._wait()

    def _wait(self) -> None:
        self._is_awaiting = False
        interval = self._config.interval
        self.deadline = time.monotonic() + interval * (1 + self._config.jitter * random.random())
        self._deadlines.add(self)

    def deadline_passed(self, now: float) -> None:
        """Time to ask, or nobody has answered."""
        if self._is_awaiting:
            self.stop()
            self._unanswered()
            return
        self._is_awaiting = True
        self._number += 1
        self.deadline = now + self._config.timeout
        self._ping(self._number.to_bytes(8, "big"))
