"""The control plane, kept running."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from mesh.platforms.backoff import Backoff
from mesh.platforms.base import PlatformError
from mesh.platforms.process.container import Running
from mesh.platforms.process.logs import tail

Start = Callable[[Sequence[str], Path], Awaitable[Running]]
"""Starts a command with a log, wherever the platform runs the control plane."""

_log = logging.getLogger("mesh.node")


class ControlPlane:
    """`python -m mesh.control` on `address`, started again whenever it ends."""

    def __init__(self, start: Start, state: Path, address: str) -> None:
        self._start = start
        self._state = state
        self._argv = ["python", "-m", "mesh.control", "--state", str(state), "--address", address]
        self._running: Running | None = None
        self._stopping = False
        self.has_answered = False

    @property
    def log(self) -> Path:
        return self._state / "logs" / "control.log"

    async def run(self) -> None:
        """Until `stop`. Raises PlatformError when it ends before it has ever answered."""
        backoff = Backoff()
        while True:
            began = time.monotonic()
            self._running = await self._start(self._argv, self.log)
            code = await self._running.wait()
            if self._stopping:
                return
            if not self.has_answered:
                raise PlatformError("\n".join([f"the control plane ended with code {code}:", *tail(self.log, 10)]))
            delay = backoff.after(time.monotonic() - began)
            _log.error("the control plane ended with code %s; starting it again in %g s", code, delay)
            await asyncio.sleep(delay)

    async def stop(self, grace_s: float) -> None:
        """Ends the process, and with it `run`."""
        self._stopping = True
        if self._running is not None and self._running.is_running:
            await self._running.end(grace_s)
