"""A pod's queues of packets, as the node has them: they are read by a process in the pod's infra container."""

import logging
from typing import Any

from mesh.platforms.base import PlatformError
from mesh.platforms.docker.conversation import Conversation
from mesh.platforms.docker.infra import Infra
from mesh.platforms.netns.faults.shaper import Shaper

READER = ("python", "-I", "-m", "mesh.platforms.docker.queue_process")
_log = logging.getLogger("mesh.node")


class PodQueues:
    """See `mesh.platforms.netns.faults.network.Queues`. The process is there for as long as a queue is open. Blocks."""

    def __init__(self, infra: Infra) -> None:
        self._infra = infra
        self._open: set[int] = set()
        self._process: Conversation | None = None

    def open(self, shaper: Shaper) -> int:
        if self._process is None:
            self._process = self._infra.converse(list(READER))
        answer = self._ask(self._process, {"open": [shaper.latency_s, shaper.jitter_s, shaper.bits_per_s]})
        number = int(answer["queue"])
        self._open.add(number)
        return number

    def close(self, number: int) -> None:
        if number not in self._open or self._process is None:
            return  # its process has ended, and all its queues with it
        try:
            self._ask(self._process, {"close": number})
        except PlatformError as error:
            _log.warning("queue %d of pod at %s: %s", number, self._infra.address, error)
        self._open.discard(number)
        if not self._open:
            self.close_all()

    def close_all(self) -> None:
        self._open.clear()
        if self._process is not None:
            self._process.close()
            self._process = None

    def _ask(self, process: Conversation, request: dict[str, object]) -> dict[str, Any]:
        """Raises PlatformError. Who does not answer any more is given up, with all its queues: packets pass then."""
        try:
            answer = process.ask(request)
        except PlatformError:
            self.close_all()
            raise
        if "error" in answer:
            raise PlatformError(answer["error"])
        return answer
