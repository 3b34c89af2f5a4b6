"""What the worker runs on: the compiled configuration, and the few things that every connection shares."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from mesh.proxy.deadlines import Deadlines
from mesh.proxy.http1.reply import Clock
from mesh.proxy.observe.access_log import LogFiles
from mesh.proxy.resources import Resources

if TYPE_CHECKING:
    from mesh.proxy.downstream.filter_chain import ListenerConfig
    from mesh.proxy.http.route import RouteTable
    from mesh.proxy.upstream.cluster import Cluster

SWEEP_TICK_S = 0.01  # how late a deadline may be kept


@dataclass(frozen=True, slots=True)
class Runtime:
    """One consistent configuration, compiled. Replaced whole; requests in flight keep what they started with."""

    resources: Resources = field(default_factory=Resources)
    listeners: Mapping[str, ListenerConfig] = field(default_factory=dict)
    routes: Mapping[str, RouteTable] = field(default_factory=dict)
    clusters: Mapping[str, Cluster] = field(default_factory=dict)


class Worker:
    """Shared by all connections of one process. `runtime` is the attribute that an update swaps."""

    __slots__ = (
        "_tasks",
        "clock",
        "connection_ids",
        "deadlines",
        "idle_deadlines",
        "is_failing",
        "logs",
        "loop",
        "runtime",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, report: Callable[[str], None]) -> None:
        self.loop = loop
        self.runtime = Runtime()
        self.deadlines = Deadlines(loop, SWEEP_TICK_S)
        self.idle_deadlines = Deadlines(loop, 1.0)
        self.clock = Clock()
        self.logs = LogFiles(loop, report)
        self.is_failing = False  # `/healthcheck/fail`
        self.connection_ids = count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """The one way to start a task: it is kept until done, and an error in it reaches the loop's handler."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        """Cancel the tasks that are left and write out the logs."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.logs.close()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.loop.call_exception_handler(
                {"message": "a task of the proxy failed", "exception": error, "task": task}
            )
