"""One pod from its birth to its end: run by the platform, known to the control plane."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from signal import Signals
from typing import TypeVar

from mesh.api.pod import ContainerStatus, Pod
from mesh.client import ApiError
from mesh.platforms.base import PROXY_CONTAINER, Places, PlatformError, RunningPod, Surroundings
from mesh.platforms.node.api import NodeApi
from mesh.platforms.node.manifests import FaultState, Manifest, is_through, now_text, pod_status, refused_containers
from mesh.platforms.node.pod_object import TOKEN_TTL_S, PodObject

_T = TypeVar("_T")

_RETRY_S = 1.0
_log = logging.getLogger("mesh.node")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose pod it is: the Deployment's namespace and name, and the hash of the template it was made from."""

    namespace: str
    deployment: str
    template: str


class PodWorker:
    """`on_change` is called whenever what the worker says of itself has changed.

    `problem` says why the pod cannot run, for as long as it cannot.
    """

    def __init__(self, manifest: Manifest, pod: Pod, owner: Owner, api: NodeApi, on_change: Callable[[], None]) -> None:
        self.name = pod.name
        self.owner = owner
        self.object = PodObject(manifest, pod.spec.service_account_name, api)
        self.born = time.monotonic()
        self.stopping = False
        self.problem = ""
        self._pod = pod
        self._names = [container.name for container in pod.spec.containers]
        self._api = api
        self._on_change = on_change
        self._changed = asyncio.Event()
        self._running: RunningPod | None = None
        self._refused: tuple[ContainerStatus, ...] = ()
        self._faults: tuple[FaultState, ...] = ()
        self._refused_init: tuple[ContainerStatus, ...] = ()
        self._initialised = asyncio.Event()
        self._started = now_text()
        self._since = dict.fromkeys(("Initialized", "Ready", "ContainersReady"), self._started)
        self._was_up = self._was_through = self._is_known = False

    @property
    def ready(self) -> bool:
        """Whether it can serve, and the control plane knows: before that no balancer sends it anything."""
        return self._is_up and self._is_known

    @property
    def _is_up(self) -> bool:
        statuses = self.statuses()
        return bool(statuses) and all(status.ready for status in statuses) and not self.stopping

    @property
    def is_refused(self) -> bool:
        """Whether the platform would not have it."""
        return bool(self._refused)

    @property
    def labels(self) -> Mapping[str, str]:
        return self._pod.metadata.labels

    @property
    def running(self) -> RunningPod | None:
        """None before the platform has it, and when it would not."""
        return self._running

    @property
    def grace_s(self) -> float:
        return float(self._pod.spec.termination_grace_period_seconds)

    def statuses(self) -> tuple[ContainerStatus, ...]:
        return self._refused if self._running is None else self._running.statuses()

    def init_statuses(self) -> tuple[ContainerStatus, ...]:
        """In the order in which they run."""
        return self._refused_init if self._running is None else self._running.init_statuses()

    async def run(self, platform: Places, surroundings: Surroundings) -> None:
        """Runs the init containers at once, then the apps, and the proxy as soon as the control plane can vouch for it
        too. Ends when cancelled."""
        running = self._place(platform, surroundings)
        tasks = [self._appear(running)]
        if running is not None:
            tasks.append(self._initialise(running))
        await asyncio.gather(*tasks)

    async def _initialise(self, running: RunningPod) -> None:
        if await running.initialise():
            running.start([name for name in self._names if name != PROXY_CONTAINER])
            self._initialised.set()

    async def _appear(self, running: RunningPod | None) -> None:
        """Makes the object as soon as the control plane takes any."""
        await self._api.open.wait()
        await self._insist(lambda: self.object.create(self._status()))
        tasks = [self._report()]
        if running is not None and PROXY_CONTAINER in self._names:
            tasks.append(self._vouch(running))
        await asyncio.gather(*tasks)

    def renew_certificate(self) -> None:
        """The agent gets a new certificate at once."""
        if self._running is not None:
            self._running.signal(PROXY_CONTAINER, Signals.SIGHUP)

    def tell_faults(self, faults: Sequence[FaultState]) -> None:
        """These lie on the pod now, or are refused: the control plane is told."""
        before = {replace(known, since=""): known for known in self._faults}
        told = tuple(before.get(fault) or replace(fault, since=now_text()) for fault in faults)
        if told != self._faults:
            self._faults = told
            self._changed.set()

    async def stop(self) -> None:
        """Out of every balancer first, then drained, then ended. The object goes last."""
        self.stopping = True
        self._faults = ()
        if self.object.exists:
            await self.object.write(self._status)
            await self.object.known_to_all()
        if self._running is not None:
            await self._running.stop(drain=True, grace_s=self.grace_s)
        if self.object.exists:
            await self.object.delete()

    def _place(self, platform: Places, surroundings: Surroundings) -> RunningPod | None:
        try:
            self._running = platform.place(self._pod, surroundings, self._note)
        except PlatformError as error:
            self._refused = refused_containers(self._pod.spec.containers, str(error))
            self._refused_init = refused_containers(self._pod.spec.init_containers, str(error))
            self._tell(str(error))
            return None
        self.object.annotate(dict(self._running.pod.metadata.annotations))
        return self._running

    async def _vouch(self, running: RunningPod) -> None:
        """Starts the proxy with a token, and renews the token."""
        await self._initialised.wait()
        await self._give_token(running)
        running.start([PROXY_CONTAINER])
        while True:
            await asyncio.sleep(TOKEN_TTL_S / 2)
            await self._give_token(running)

    async def _give_token(self, running: RunningPod) -> None:
        token = await self._insist(self.object.token)
        running.provide({"token": token, "root-cert.pem": self._api.root_cert()})

    async def _insist(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Again and again: what the control plane refuses now, say a token for an account not yet there, it may grant
        later. The problem is told meanwhile."""
        while True:
            try:
                result = await attempt()
            except ApiError as error:
                self._tell(str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                if self._running is not None:
                    self._tell("")
                return result

    def _tell(self, problem: str) -> None:
        if problem and problem != self.problem:
            _log.error("pod %s cannot run: %s", self.name, problem)
        if problem != self.problem:
            self.problem = problem
            self._on_change()

    def _note(self) -> None:
        if self._is_up != self._was_up:
            self._was_up = self._is_up
            self._since |= dict.fromkeys(("Ready", "ContainersReady"), now_text())
        if is_through(self.init_statuses()) != self._was_through:
            self._was_through = not self._was_through
            self._since["Initialized"] = now_text()
        self._changed.set()
        self._on_change()

    def _status(self) -> Manifest:
        address = "" if self._running is None else self._running.pod.status.pod_ip
        return pod_status(
            address,
            self.statuses(),
            self.init_statuses(),
            restart=self._pod.spec.restart_policy,
            stopping=self.stopping,
            since=self._since,
            started=self._started,
            faults=self._faults,
        )

    async def _report(self) -> None:
        """Until somebody deletes the object: the node sees that too, and ends this pod."""
        while self.object.exists:
            await self._changed.wait()
            self._changed.clear()
            is_up = self._is_up
            await self.object.write(self._status)
            self._is_known = is_up
            self._on_change()
