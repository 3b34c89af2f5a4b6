"""How each version of ratings misbehaves."""

from __future__ import annotations

import itertools
import random
import time

from .config import Config


class Fault:
    """Decides, request by request, whether ratings are available. This one, of v1 and v2, always says yes."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def is_available(self) -> bool:
        return True

    def is_healthy(self) -> bool:
        return True

    def _strikes(self) -> bool:
        return random.random() * 100 < self.config.fault_percent


class Faulty(Fault):
    """v-faulty: some requests fail."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._requests = itertools.count()

    def is_available(self) -> bool:
        if self.config.fault_first:
            return next(self._requests) >= self.config.fault_first
        return not self._strikes()


class Delayed(Fault):
    """v-delayed: some requests wait before they are answered."""

    def is_available(self) -> bool:
        if self._strikes():
            time.sleep(self.config.delay_seconds)
        return True


class Alternating(Fault):
    """v-unavailable: all requests are answered for a while, then none, and so on."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._started = time.monotonic()

    def is_available(self) -> bool:
        return int((time.monotonic() - self._started) / self.config.alternate_seconds) % 2 == 0


class Unhealthy(Alternating):
    """v-unhealthy: as v-unavailable, and its health check tells."""

    def is_healthy(self) -> bool:
        return self.is_available()


FAULTS: dict[str, type[Fault]] = {
    "v1": Fault,
    "v2": Fault,
    "v-faulty": Faulty,
    "v-delayed": Delayed,
    "v-unavailable": Alternating,
    "v-unhealthy": Unhealthy,
}
