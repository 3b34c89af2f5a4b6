"""The control plane's process, kept running."""

import asyncio
import logging
import time
from pathlib import Path

from mesh.platforms.backoff import Backoff
from mesh.platforms.base import PlatformError
from mesh.platforms.process.launcher import Launcher, ProcessGroup, base_environment
from mesh.platforms.process.logs import tail

_log = logging.getLogger("mesh.node")


class ControlPlane:
    """`python -m mesh.control` on `address`, started again whenever it ends."""

    def __init__(self, launcher: Launcher, state: Path, address: str) -> None:
        self._launcher = launcher
        self._state = state
        self._address = address
        self._group: ProcessGroup | None = None
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
            self._group = await self._start()
            code = await self._group.wait()
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
        if self._group is not None and self._group.is_running:
            await self._group.end(grace_s)

    async def _start(self) -> ProcessGroup:
        argv = ["python", "-m", "mesh.control", "--state", str(self._state), "--address", self._address]
        return await self._launcher.start("control", argv, env=base_environment(), cwd=self._state, log=self.log)
