"""One run of a mesh on this machine, from an empty state folder to the last process gone."""

import asyncio
import contextlib
import logging
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesh.client import MeshClient
from mesh.config.decode import Manifest
from mesh.injector.inject import ProxySettings
from mesh.platforms import leftovers
from mesh.platforms.base import PlatformError
from mesh.platforms.node.api import NodeApi
from mesh.platforms.node.control_plane import ControlPlane, Start
from mesh.platforms.node.node import Node
from mesh.platforms.process.container import Running, Spawn
from mesh.platforms.process.launcher import Launcher, base_environment
from mesh.platforms.process.ledger import OWNER_VARIABLE
from mesh.platforms.process.logs import open_log, tail
from mesh.platforms.process.platform import ProcessPlatform
from mesh.platforms.startup import Progress, wait_until_ready
from mesh.platforms.state import StateFolder

if TYPE_CHECKING:
    from mesh.platforms.docker.platform import DockerPlatform
    from mesh.platforms.netns.host import HostPorts
    from mesh.platforms.netns.platform import NetnsPlatform

API_PORT, XDS_PORT = 15014, 15012
_READY_S = 30.0
_POLL_S = 0.03
_GRACE_S = 3.0
NODE_LOG = "node.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """`manifests` are applied first. `host` is given within a lab, where the platform is `netns`; it knows which ports
    of the host pods may call, and `host_ports` are those for `docker`. `run` names this life of the mesh."""

    name: str
    state: Path
    work_folder: Path
    engine: str
    gateway_port: int
    manifests: Sequence[Manifest]
    timeout_s: float
    platform: str = "process"
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    host: "HostPorts | None" = None
    host_ports: Collection[int] = ()


async def run_session(options: SessionOptions, progress: Progress, stop: asyncio.Event) -> None:
    """Returns when `stop` is set and everything has ended. Raises PlatformError, or MeshError of the client, when the
    mesh does not come up; nothing is left running then either."""
    host = options.host
    folder = StateFolder(options.state, _pid(options))
    if host is not None:
        host.on_stop(stop.set)
    try:
        leftovers.sweep(options.state)
        folder.clear()
        # Of a lab nothing can be left.
        reaper = _reaper(options) if host is None else contextlib.nullcontext()
        with _logging(options.state), reaper:
            async with asyncio.TaskGroup() as group, _session(options, folder, group) as session:
                await session.run_until(stop, progress)
                progress.say("stopping")
    finally:
        folder.close()


class _Session:
    def __init__(self, options: SessionOptions, folder: StateFolder, group: asyncio.TaskGroup) -> None:
        self._options = options
        self._folder = folder
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()
        self._root_cert = options.state / "ca" / "root-cert.pem"
        self.platform, start_control = _platform(options, self._spawn)
        self.platform.claim(options.gateway_port)
        address = self.platform.control_address
        api_host, api_port = self.platform.reach_control(API_PORT)
        self._api_url = f"https://{api_host}:{api_port}"
        self.control = ControlPlane(start_control, options.state, address)
        # A lab reaches it from within; the host's port leads there for all others.
        reached = f"https://{address}:{API_PORT}" if options.host is not None else self._api_url
        client = MeshClient(reached, options.state / "token", self._root_cert)
        self.api = NodeApi(client, self._root_cert)
        proxies = ProxySettings(
            f"{address}:{API_PORT}",
            f"{address}:{XDS_PORT}",
            options.engine,
            intercepted=options.platform in ("netns", "docker"),
            known_by="uid" if options.platform == "docker" else "mark",
        )
        self.node = Node(self.platform, self.api, proxies, self._spawn)

    async def run_until(self, stop: asyncio.Event, progress: Progress) -> None:
        """Comes up, and waits for `stop`, which may be set before it is up."""
        coming_up = self._spawn(self._come_up(progress))
        await stop.wait()
        coming_up.cancel()

    async def _come_up(self, progress: Progress) -> None:
        self._spawn(self.control.run())
        self.node.start(self._options.manifests)
        await self._control_answers()
        self._publish()
        self.platform.follow(self.api.client)
        await self.api.call(self.api.client.apply_all, [dict(manifest.raw) for manifest in self._options.manifests])
        self.node.follow()
        await wait_until_ready(self.node, self.platform, progress, self._options.timeout_s)
        await self.api.call(self.api.client.wait_synced, None, self._options.timeout_s)
        progress.ready(gateway_url(self._options.gateway_port))

    async def _control_answers(self) -> None:
        """Asks in short calls, because a thread that waits cannot be cancelled."""
        # A busy engine takes its time to start a container: who gives the mesh more time, gives it to this too.
        patience_s = max(_READY_S, self._options.timeout_s)
        try:
            async with asyncio.timeout(patience_s):
                while not await self.api.call(self.api.client.is_ready):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            lines = [f"the control plane does not answer after {patience_s:g} s:", *tail(self.control.log, 10)]
            raise PlatformError("\n".join(lines)) from None
        self.control.has_answered = True

    async def go_down(self) -> None:
        """Ends every process, then every task. Nothing is drained: the callers end as well."""
        self.node.close()
        await asyncio.gather(self.platform.end_pods(_GRACE_S), self.control.stop(_GRACE_S))
        await self.platform.close()
        self.api.close()
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task of this session; when one fails, the session does."""
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.node.close()  # at once: the group takes no more tasks, so nothing new may be begun

    def _publish(self) -> None:
        self._folder.publish(
            name=self._options.name,
            api=self._api_url,
            token_file=str(self._options.state / "token"),
            root_cert=str(self._root_cert),
            gateway=gateway_url(self._options.gateway_port),
            engine=self._options.engine,
            platform=self.platform.name,
            node_pid=_pid(self._options),
            lacking=dict(self.platform.lacking),
        )


def gateway_url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def _session(options: SessionOptions, folder: StateFolder, group: asyncio.TaskGroup) -> AsyncIterator[_Session]:
    session = _Session(options, folder, group)
    try:
        yield session
    finally:
        await session.go_down()


@contextlib.contextmanager
def _logging(state: Path) -> Iterator[None]:
    """The node's own log, for as long as the session lasts."""
    handler = logging.FileHandler(state / "logs" / NODE_LOG)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("mesh")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


@contextlib.contextmanager
def _reaper(options: SessionOptions) -> Iterator[None]:
    """Ends what we leave behind, however we end: see `mesh.platforms.reaper`."""
    log = open_log(options.state / "logs" / NODE_LOG)
    environment = {name: value for name, value in os.environ.items() if name != OWNER_VARIABLE}
    process = subprocess.Popen(
        [sys.executable, "-m", "mesh.platforms.reaper", str(options.state), options.run],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env=environment,
        start_new_session=True,
    )
    os.close(log)
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def _platform(
    options: SessionOptions, spawn: Spawn
) -> "tuple[ProcessPlatform | NetnsPlatform | DockerPlatform, Start]":
    """The platform, and how the control plane starts there."""
    state, work = options.state, options.work_folder
    if options.platform == "docker":
        from mesh.platforms.docker.platform import DockerPlatform  # noqa: PLC0415 - its library is an extra

        containers = DockerPlatform(state, spawn, options.name, options.run, reachable=options.host_ports)
        return containers, containers.start_control
    if options.host is None:
        processes = ProcessPlatform(state, spawn, work)
        return processes, _beside(processes.launcher, state)
    from mesh.platforms.netns.platform import NetnsPlatform  # noqa: PLC0415 - Linux alone has what it needs

    lab = NetnsPlatform(state, spawn, work, options.host)
    return lab, _beside(lab.launcher, state)


def _beside(launcher: Launcher, state: Path) -> Start:
    """The control plane as a process beside this one."""

    async def start(argv: Sequence[str], log: Path) -> Running:
        return await launcher.start("control", argv, env=base_environment(), cwd=state, log=log)

    return start


def _pid(options: SessionOptions) -> int:
    """Whom to signal to end the mesh: in a lab this process has another pid than outside."""
    return os.getpid() if options.host is None else options.host.parent
