"""Access logs: Envoy's format strings compiled to functions, lines gathered and written a few times a second.

Formats are `compile/access_log.py`'s concern; here are the files and what one line needs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Container, Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.proxy.observe.log_service import LogService

FLUSH_EVERY_S = 0.1
FLUSH_ABOVE = 64 * 1024
_MODE = 0o644


class LogFile:
    """One log file, opened for appending. Lines wait at most FLUSH_EVERY_S or until FLUSH_ABOVE bytes are there."""

    __slots__ = ("_descriptor", "_gathered", "_loop", "_report", "_size", "_timer", "path")

    def __init__(self, loop: asyncio.AbstractEventLoop, path: str, report: Callable[[str], None]) -> None:
        """Raises OSError if the file cannot be opened."""
        self._loop = loop
        self._report = report
        self.path = path
        self._descriptor = _open(path)
        self._gathered: list[str] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    def write(self, line: str) -> None:
        self._gathered.append(line)
        self._size += len(line)
        if self._size > FLUSH_ABOVE:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(FLUSH_EVERY_S, self.flush)

    def flush(self) -> None:
        """Write what has been gathered. What a full pipe does not take is lost, and said so."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        data = "".join(self._gathered).encode("utf-8", "surrogateescape")
        self._gathered.clear()
        self._size = 0
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except OSError as error:
                self._report(f"access log {self.path}: {error.strerror}; {len(data)} bytes lost")
                return

    def reopen(self) -> None:
        """Go on in what is at the path now; stay with what is open if that cannot be opened, and say so."""
        self.flush()
        try:
            descriptor = _open(self.path)
        except OSError as error:
            self._report(f"access log {self.path}: cannot reopen: {error.strerror}")
            return
        os.close(self._descriptor)
        self._descriptor = descriptor

    def close(self) -> None:
        self.flush()
        os.close(self._descriptor)


def _open(path: str) -> int:
    # O_NONBLOCK: neither a full pipe nor a FIFO without a reader may hold up requests.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, _MODE)


class LogFiles:
    """The open log files by path and the log services by what they were asked for, so that many listeners share one."""

    __slots__ = ("_files", "_loop", "_report", "_services")

    def __init__(self, loop: asyncio.AbstractEventLoop, report: Callable[[str], None]) -> None:
        self._loop = loop
        self._report = report
        self._files: dict[str, LogFile] = {}
        self._services: dict[Hashable, LogService] = {}

    def open(self, path: str) -> LogFile:
        """The file at `path`. Raises OSError."""
        file = self._files.get(path)
        if file is None:
            file = self._files[path] = LogFile(self._loop, path, self._report)
        return file

    def service(self, key: Hashable, make: Callable[[], LogService]) -> LogService:
        """The log service that is known by `key`."""
        service = self._services.get(key)
        if service is None:
            service = self._services[key] = make()
        return service

    def keep_services(self, used: Container[LogService]) -> None:
        """Close the log services that are not `used` any more."""
        for key, service in list(self._services.items()):
            if service not in used:
                del self._services[key]
                service.close()

    def reopen(self) -> None:
        """Open every file anew by its path, as log rotation asks."""
        for file in self._files.values():
            file.reopen()

    def flush(self) -> None:
        for file in self._files.values():
            file.flush()
        for service in self._services.values():
            service.flush()

    def close(self) -> None:
        for service in self._services.values():
            service.close()
        self._services.clear()
        for file in self._files.values():
            file.close()
        self._files.clear()
