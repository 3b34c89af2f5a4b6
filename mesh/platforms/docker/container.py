"""One container in the engine: made once, started again as often as it ends."""

import asyncio
import io
import logging
import os
import signal
import tarfile
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from signal import Signals
from typing import Any

from mesh.platforms.docker.engine import Engine, EngineError, close
from mesh.platforms.process.logs import open_log

_SIGNALLED = 128
_CONFLICT = (404, 409)  # it has ended meanwhile
_log = logging.getLogger("mesh.node")


class EngineContainer:
    """`arguments` are those of the engine's `create_container`."""

    def __init__(self, engine: Engine, arguments: Mapping[str, Any], log: Path) -> None:
        self._engine = engine
        self._arguments = arguments
        self._log = log
        self._files: dict[str, bytes] = {}
        self._id = ""
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        """Empty before the first start."""
        return self._id

    async def start(self) -> "ContainerLife":
        """Raises OSError when the engine cannot."""
        life = ContainerLife(self._engine, asyncio.get_running_loop())
        try:
            await self._engine.call(self._start, life)
        except EngineError as error:
            raise OSError(str(error)) from error
        return life

    def put(self, folder: str, files: Mapping[str, bytes], owner: int) -> None:
        """Files (0600) in a folder of the container's own layer, each whole; before the first start too. Blocks."""
        archive = _archive(files, owner)
        with self._lock:
            if self._id:
                self._engine.do(self._engine.api.put_archive, self._id, folder, archive)
            else:
                self._files[folder] = archive

    async def remove(self) -> None:
        """Raises EngineError."""
        if self._id:
            await self._engine.call(self._engine.remove, self._id)

    def _start(self, life: "ContainerLife") -> None:
        api = self._engine.api
        if not self._id:
            made = str(api.create_container(**self._arguments)["Id"])
            with self._lock:
                for folder, archive in self._files.items():
                    api.put_archive(made, folder, archive)
                self._files.clear()
                self._id = made
        # Attached before it starts, so that nothing it says is missed.
        output = api.attach(self._id, stdout=True, stderr=True, stream=True)
        api.start(self._id)
        life.follow(self._id, output, open_log(self._log))


class ContainerLife:
    """See `mesh.platforms.process.container.Running`. A thread copies what it prints into the log until it ends."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop
        self._ended: asyncio.Future[int] = loop.create_future()
        self._last: asyncio.Task[None] | None = None
        self._paused = False
        self._id = ""

    def follow(self, container: str, output: Iterable[bytes], log: int) -> None:
        self._id = container
        name = f"log-{container[:12]}"
        threading.Thread(target=self._copy, args=(output, log), name=name, daemon=True).start()

    @property
    def is_running(self) -> bool:
        return not self._ended.done()

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    def signal(self, sig: Signals) -> None:
        self._ask(self._engine.api.kill, self._id, int(sig))

    def pause(self) -> None:
        self._paused = True
        self._ask(self._engine.api.pause, self._id)

    def resume(self) -> None:
        self._paused = False
        self._ask(self._engine.api.unpause, self._id)

    def kill(self) -> None:
        self._ask(self._engine.api.kill, self._id, int(signal.SIGKILL))

    async def end(self, grace_s: float) -> int:
        if self._paused:
            self.resume()
        if self._last is not None:
            await asyncio.wait([self._last])
        try:
            await self._engine.call(self._engine.api.stop, self._id, timeout=round(grace_s))
        except EngineError as error:
            if error.status not in _CONFLICT:
                raise
        return await self.wait()

    def _ask(self, function: Callable[..., object], *arguments: object) -> None:
        """In a thread, one after the other, so that a resume never overtakes its pause."""
        if self.is_running:
            self._last = self._loop.create_task(self._in_turn(self._last, function, *arguments))

    async def _in_turn(
        self, before: "asyncio.Task[None] | None", function: Callable[..., object], *arguments: object
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            await self._engine.call(function, *arguments)
        except EngineError as error:
            level = logging.INFO if error.status in _CONFLICT else logging.ERROR
            _log.log(level, "container %s: %s", self._id[:12], error)

    def _copy(self, output: Iterable[bytes], log: int) -> None:
        code = 0
        try:
            try:
                for chunk in output:
                    os.write(log, chunk)
            finally:
                os.close(log)
                close(output)
            code = exit_code(int(self._engine.do(self._engine.api.wait, self._id)["StatusCode"]))
        except (EngineError, OSError) as error:
            _log.info("container %s is gone: %s", self._id[:12], error)
            code = -signal.SIGKILL
        finally:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._tell, code)

    def _tell(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)


def exit_code(status: int) -> int:
    """The engine's status, and negative for a signal as Python has it: shells and init say 128 and more for one."""
    number = status - _SIGNALLED
    return -number if number in {int(each) for each in Signals} else status


def _archive(files: Mapping[str, bytes], owner: int) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(content), 0o600, owner, owner
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()
