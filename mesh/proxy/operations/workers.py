"""The data path in worker processes that share their ports (SO_REUSEPORT): asked together, counted together."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterable
from typing import Any

from envoy.config.bootstrap.v3.bootstrap_pb2 import ClusterManager
from envoy.config.core.v3.base_pb2 import Node

from mesh.proxy import logs
from mesh.proxy.observe.stats import Sample, merge
from mesh.proxy.operations import ipc
from mesh.proxy.operations.ipc import Verb
from mesh.proxy.operations.plane import ClusterStatus, HostStatus, ListenerStatus
from mesh.proxy.resources import Refused, Resources

_LOG = logs.logger("worker")
_RESTART_S = 1.0
_WARMING_POLL_S = 0.05  # a worker answers in turn: one that waits could not be asked for anything else
_SUMMED = (
    "cx_active",
    "cx_connect_fail",
    "cx_total",
    "rq_active",
    "rq_error",
    "rq_pending_active",
    "rq_success",
    "rq_timeout",
    "rq_total",
)


class WorkerGoneError(Exception):
    """The worker ended before it answered."""


class _Worker:
    """One worker process and its end of the socket pair."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls, node: Node, manager: ClusterManager, level: str) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            messages = [message.SerializeToString().hex() for message in (node, manager)]
            arguments = (str(theirs.fileno()), level, *messages)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mesh.proxy.operations.worker", *arguments, pass_fds=[theirs.fileno()]
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer)

    async def ask(self, verb: Verb, argument: Any = None) -> Any:
        """The worker's answer. Raises Refused, or WorkerGoneError."""
        async with self._turn:
            if self._writer.is_closing():
                raise WorkerGoneError(f"worker {self.process.pid} ended")
            try:
                await ipc.send(self._writer, (verb, argument))
                outcome, value = await ipc.receive(self._reader)
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise WorkerGoneError(f"worker {self.process.pid} ended") from error
        if outcome == "refused":
            raise Refused(*value)
        return value

    async def end(self, grace_s: float) -> None:
        """Let it finish for `grace_s`, then see that it is gone."""
        try:
            async with asyncio.timeout(grace_s + 1):
                await self.ask(Verb.CLOSE, grace_s)
                await self.process.wait()
        except (TimeoutError, WorkerGoneError):
            if self.process.returncode is None:
                self.process.kill()
            await self.process.wait()
        self._writer.close()


class Workers:
    """A `DataPlane` of several processes. One that dies is started again with the configuration in force."""

    def __init__(self, node: Node, manager: ClusterManager, level: str) -> None:
        self._node = node
        self._manager = manager
        self._level = level
        self._workers: list[_Worker] = []
        self._applied: ipc.Encoded | None = None
        self._change = asyncio.Lock()  # no successor may start on what is just being replaced
        self._is_draining = self._is_failing = False

    @classmethod
    async def start(cls, node: Node, manager: ClusterManager, count: int, level: str) -> Workers:
        """`count` workers without configuration."""
        made = cls(node, manager, level)
        for _ in range(count):
            made._workers.append(await _Worker.start(node, manager, level))
        return made

    async def run(self) -> None:
        """Start a successor for each worker that ends, until the workers are drained."""
        async with asyncio.TaskGroup() as keepers:
            for index in range(len(self._workers)):
                keepers.create_task(self._keep(index))

    async def check(self, resources: Resources) -> None:
        encoded = ipc.encode(resources)
        for worker in list(self._workers):
            try:
                await worker.ask(Verb.CHECK, encoded)
            except WorkerGoneError:
                continue
            return  # they are all the same program: one answer is enough

    async def apply(self, resources: Resources) -> None:
        """All workers or none: what some took before another refused is taken back."""
        async with self._change:
            await self._apply(resources)

    async def _apply(self, resources: Resources) -> None:
        before, encoded = self._applied, ipc.encode(resources)
        taken: list[_Worker] = []
        for worker in list(self._workers):
            try:
                await worker.ask(Verb.APPLY, encoded)
            except WorkerGoneError:
                continue  # its successor starts with what is in force by then
            except Refused:
                for earlier in taken:
                    await self._restore(earlier, before)
                raise
            taken.append(worker)
        self._applied = encoded

    async def wait_warming(self, known: frozenset[str] | None) -> frozenset[str]:
        """Workers are asked only while clusters warm; what makes them begin comes through `apply`."""
        names: frozenset[str] = frozenset().union(*await self._all(Verb.WARMING))
        while names == known:
            await asyncio.sleep(_WARMING_POLL_S)
            names = frozenset().union(*await self._all(Verb.WARMING))
        return names

    async def samples(self) -> list[Sample]:
        return merge(await self._all(Verb.SAMPLES))

    async def clusters(self) -> list[ClusterStatus]:
        return _summed(await self._all(Verb.CLUSTERS))

    async def listeners(self) -> list[ListenerStatus]:
        found = await self._all(Verb.LISTENERS)
        return list(found[0]) if found else []

    async def reset_counters(self) -> None:
        await self._all(Verb.RESET)

    async def reopen_logs(self) -> None:
        await self._all(Verb.REOPEN)

    async def fail(self, is_failing: bool) -> None:
        async with self._change:
            self._is_failing = is_failing
            await self._all(Verb.FAIL, is_failing)

    async def drain(self, *, inbound_only: bool = False, keeps_accepting: bool = False) -> None:
        # A worker that ends while some listeners still accept has to have a successor.
        self._is_draining = self._is_draining or not (inbound_only or keeps_accepting)
        await self._all(Verb.DRAIN, (inbound_only, keeps_accepting))

    async def close(self, grace_s: float) -> None:
        workers, self._workers = self._workers, []
        await asyncio.gather(*(worker.end(grace_s) for worker in workers))

    async def _all(self, verb: Verb, argument: Any = None) -> list[Any]:
        """The answers of the workers that are there to answer."""
        answers = await asyncio.gather(
            *(worker.ask(verb, argument) for worker in self._workers), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, WorkerGoneError):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    async def _restore(self, worker: _Worker, before: ipc.Encoded | None) -> None:
        """Put `worker` on what was in force. What others serve cannot be refused for what it says, but for its port."""
        if before is None:
            return
        try:
            await worker.ask(Verb.APPLY, before)
        except (WorkerGoneError, Refused) as error:
            _LOG.error("worker %d does not serve: %s", worker.process.pid, error)
            if worker.process.returncode is None:
                worker.process.kill()  # its keeper starts another

    async def _keep(self, index: int) -> None:
        while True:
            worker = self._workers[index]
            code = await worker.process.wait()
            if self._is_draining:
                return
            _LOG.error("worker %d ended with code %d: starting another", worker.process.pid, code)
            await asyncio.sleep(_RESTART_S)
            async with self._change:
                self._workers[index] = successor = await _Worker.start(self._node, self._manager, self._level)
                await self._restore(successor, self._applied)
                if self._is_failing:
                    await self._all(Verb.FAIL, True)


def _summed(answers: Iterable[list[ClusterStatus]]) -> list[ClusterStatus]:
    """One status a cluster, with each host's counts of all workers."""
    clusters: dict[str, ClusterStatus] = {}
    hosts: dict[str, dict[tuple[str, int], HostStatus]] = {}
    for status in (status for answer in answers for status in answer):
        clusters.setdefault(status.name, status)
        mine = hosts.setdefault(status.name, {})
        for host in status.hosts:
            key = (host.address, host.port)
            mine[key] = _sum(mine[key], host) if key in mine else host
    return [status._replace(hosts=tuple(hosts[name].values())) for name, status in clusters.items()]


def _sum(one: HostStatus, two: HostStatus) -> HostStatus:
    counts = {name: getattr(one, name) + getattr(two, name) for name in _SUMMED}
    return one._replace(**counts, health_flags=tuple(dict.fromkeys((*one.health_flags, *two.health_flags))))
