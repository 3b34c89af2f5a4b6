"""One pod from its birth to its end: run by the platform, known to the control plane."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from signal import Signals

from mesh.api.pod import ContainerStatus, Pod
from mesh.client import ApiError
from mesh.platforms.base import PROXY_CONTAINER, Platform, PlatformError, RunningPod, Surroundings
from mesh.platforms.node.api import NodeApi
from mesh.platforms.node.manifests import Manifest, now_text, pod_status

TOKEN_TTL_S = 24 * 3600
_SYNC_S = 2.0
_log = logging.getLogger("mesh.node")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose pod it is: the Deployment's namespace and name, and the hash of the template it was made from."""

    namespace: str
    deployment: str
    template: str


class PodWorker:
    """`on_change` is called whenever what the worker says of itself has changed."""

    def __init__(self, manifest: Manifest, pod: Pod, owner: Owner, api: NodeApi, on_change: Callable[[], None]) -> None:
        self.name = pod.name
        self.owner = owner
        self.born = time.monotonic()
        self.stopping = False
        self.problem = ""
        self.in_store = False
        self._pod = pod
        self._manifest = manifest
        self._api = api
        self._on_change = on_change
        self._changed = asyncio.Event()
        self._running: RunningPod | None = None
        self._started = now_text()
        self._since = dict.fromkeys(("Ready", "ContainersReady"), self._started)
        self._was_ready = False

    @property
    def ready(self) -> bool:
        statuses = self.statuses()
        return bool(statuses) and all(status.ready for status in statuses) and not self.stopping

    @property
    def grace_s(self) -> float:
        return float(self._pod.spec.termination_grace_period_seconds)

    def statuses(self) -> tuple[ContainerStatus, ...]:
        return () if self._running is None else self._running.statuses()

    async def run(self, platform: Platform, surroundings: Surroundings) -> None:
        """Starts the apps at once, and the proxy as soon as the control plane can vouch for it. Ends when cancelled."""
        if not self._place(platform, surroundings):
            return
        assert self._running is not None
        names = [container.name for container in self._pod.spec.containers]
        self._running.start([name for name in names if name != PROXY_CONTAINER])
        await self._api.open.wait()
        stored = await self._api.call(self._api.client.create, self._with_status(self._manifest))
        self._manifest = stored
        self.in_store = True
        if PROXY_CONTAINER in names:
            await self._give_token(self._running)
            self._running.start([PROXY_CONTAINER])
        await asyncio.gather(self._report(), self._renew_token(self._running, in_mesh=PROXY_CONTAINER in names))

    def renew_certificate(self) -> None:
        """The agent gets a new certificate at once."""
        if self._running is not None:
            self._running.signal(PROXY_CONTAINER, Signals.SIGHUP)

    async def stop(self, *, drain: bool, grace_s: float) -> None:
        """Out of every balancer first, then drained, then ended. The object goes last."""
        self.stopping = True
        if drain and self.in_store:
            await self._leave_balancers()
        if self._running is not None:
            await self._running.stop(drain=drain, grace_s=grace_s)
        if drain and self.in_store:
            await self._api.delete_pod(self._manifest)

    def _place(self, platform: Platform, surroundings: Surroundings) -> bool:
        try:
            self._running = platform.place(self._pod, surroundings, self._note)
        except PlatformError as error:
            self.problem = str(error)
            _log.error("pod %s cannot run: %s", self.name, error)
            self._on_change()
            return False
        self._manifest["metadata"]["annotations"] = dict(self._running.pod.metadata.annotations)
        return True

    def _note(self) -> None:
        if self.ready != self._was_ready:
            self._was_ready = self.ready
            self._since = dict.fromkeys(self._since, now_text())
        self._changed.set()
        self._on_change()

    def _with_status(self, manifest: Manifest) -> Manifest:
        assert self._running is not None
        address = self._running.pod.status.pod_ip
        status = pod_status(address, self.statuses(), stopping=self.stopping, since=self._since, started=self._started)
        return manifest | {"status": status}

    async def _report(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not await self._write_status():
                return  # deleted: the node sees that too, and ends this pod

    async def _write_status(self) -> bool:
        stored = await self._api.update_pod(self._manifest, self._with_status)
        if stored is None:
            self.in_store = False
            return False
        self._manifest = stored
        return True

    async def _leave_balancers(self) -> None:
        if await self._write_status():
            await self._synced(self._manifest["metadata"]["resourceVersion"])

    async def _synced(self, version: str) -> None:
        try:
            await self._api.call(self._api.client.wait_synced, version, _SYNC_S)
        except ApiError as error:  # a late proxy is no reason to keep the pod; its calls are retried elsewhere
            _log.info("stopping %s before every proxy knows: %s", self.name, error)

    async def _give_token(self, running: RunningPod) -> None:
        meta = self._manifest["metadata"]
        token = await self._api.call(
            self._api.client.create_token,
            self._pod.spec.service_account_name,
            meta["namespace"],
            meta["name"],
            meta["uid"],
            ttl_s=TOKEN_TTL_S,
        )
        running.provide({"token": token.token.encode(), "root-cert.pem": self._api.root_cert()})

    async def _renew_token(self, running: RunningPod, *, in_mesh: bool) -> None:
        while in_mesh:
            await asyncio.sleep(TOKEN_TTL_S / 2)
            await self._give_token(running)
