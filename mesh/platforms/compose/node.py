"""`python -m mesh.platforms.compose.node`: tells the control plane of pods that docker compose runs.

It does of the node's work what compose leaves undone: manifests and Pod objects for the control plane, names for DNS,
tokens for the agents, and readiness by probes made inside of the pods. It starts and ends no container, and has no
privilege.
"""

import asyncio
import contextlib
import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from signal import Signals
from typing import Any

from mesh.api.pod import Pod
from mesh.client import ApiError, MeshClient
from mesh.config.decode import decode_object
from mesh.platforms.base import ExecResult, PlatformError, Surroundings
from mesh.platforms.compose.layout import API_PORT, MESH, PROXIES, READY, RUN, SOCKETS, STATE, Layout
from mesh.platforms.docker.habitat import DockerHabitat
from mesh.platforms.docker.sockets import PodSockets
from mesh.platforms.netns.dns import Resolver
from mesh.platforms.netns.names import NamesFollower
from mesh.platforms.node.api import NodeApi
from mesh.platforms.node.inventory import Inventory
from mesh.platforms.node.manifests import HASH_LABEL
from mesh.platforms.node.worker import Owner, PodWorker
from mesh.platforms.process.container import ContainerPlan, Spawn
from mesh.platforms.process.plan import Folders, PodPlan
from mesh.platforms.process.pod import ProcessPod

_POLL_S = 0.1
_log = logging.getLogger("mesh.node")


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(_run(Layout.load(MESH.read_text())))


async def _run(layout: Layout) -> None:
    root_cert = STATE / "ca" / "root-cert.pem"
    client = MeshClient(f"https://{layout.control}:{API_PORT}", STATE / "token", root_cert)
    api = NodeApi(client, root_cert)
    resolver, changed = Resolver(), asyncio.Event()
    inventory = Inventory()
    inventory.seed(layout.decoded())
    async with asyncio.TaskGroup() as group:
        await resolver.start(layout.control)
        while not await api.call(client.is_ready):  # noqa: ASYNC110 - another container
            await asyncio.sleep(_POLL_S)
        await api.call(client.apply_all, [dict(manifest) for manifest in layout.manifests])
        NamesFollower(client, functools.partial(setattr, resolver, "table"), {})
        api.open.set()
        _publish(layout)
        places = _Pods(layout, group.create_task)
        workers = []
        for manifest in layout.pods:
            worker = _worker(dict(manifest), api, changed.set)
            workers.append(worker)
            await _forget(api, manifest["metadata"])
            group.create_task(worker.run(places, inventory.surroundings(worker.owner.namespace)))
        await _tell_readiness(workers, changed)


def _worker(manifest: dict[str, Any], api: NodeApi, on_change: Callable[[], None]) -> PodWorker:
    pod = decode_object(manifest).resource
    assert isinstance(pod, Pod)
    (owner,) = manifest["metadata"]["ownerReferences"]
    whose = Owner(pod.namespace, owner["name"], pod.metadata.labels[HASH_LABEL])
    return PodWorker(manifest, pod, whose, api, on_change)


async def _forget(api: NodeApi, meta: dict[str, Any]) -> None:
    """The Pod that an earlier life of this process wrote: a token is bound to an object, a new one each time."""
    try:
        await api.call(api.client.delete, "Pod", meta["name"], meta["namespace"])
    except ApiError as error:
        if error.status != 404:
            raise


async def _tell_readiness(workers: Sequence[PodWorker], changed: asyncio.Event) -> None:
    """By a file, for this container's health check."""
    while True:
        changed.clear()
        waiting = [worker.name for worker in workers if not worker.ready]
        if waiting:
            READY.unlink(missing_ok=True)
            _log.info("not ready: %s", ", ".join(waiting))
        else:
            READY.touch()
            _log.info("all %d pods are ready", len(workers))
        await changed.wait()


def _publish(layout: Layout) -> None:
    """For `docker compose exec node meshdrill ...`."""
    fields = {
        "name": layout.name,
        "api": f"https://{layout.control}:{API_PORT}",
        "token_file": str(STATE / "token"),
        "root_cert": str(STATE / "ca" / "root-cert.pem"),
        "gateway": layout.gateway,
        "engine": layout.engine,
        "platform": "compose",
        "node_pid": os.getpid(),
        "lacking": {},
    }
    (RUN / "mesh.json").write_text(json.dumps(fields))


class _Pods:
    """See `mesh.platforms.base.Places`."""

    def __init__(self, layout: Layout, spawn: Spawn) -> None:
        self._layout = layout
        self._spawn = spawn
        self._folders = Folders(PROXIES.parent, PROXIES.parent)

    def place(self, pod: Pod, surroundings: Surroundings, on_change: Callable[[], None]) -> ProcessPod:
        sockets = PodSockets(pod.name, self._layout.addresses[pod.name])
        sockets.open(SOCKETS / pod.name)
        habitat = DockerHabitat(sockets, self._layout.control, pod, RUN / "etc" / pod.name, volumes=None, outside={})
        plan = PodPlan(pod, habitat, surroundings, self._folders)
        plans = [_observed(each) for each in plan.containers]
        return ProcessPod(plan.pod, plans, _Elsewhere(), self._spawn, on_change=on_change, on_end=lambda pod: None)


def _observed(plan: ContainerPlan) -> ContainerPlan:
    """What can be seen from here: compose alone runs commands in a container, and starts it again."""
    ready = plan.readiness if plan.readiness is None or plan.readiness.exec is None else None
    started = plan.startup if plan.startup is None or plan.startup.exec is None else None
    return replace(plan, readiness=ready, startup=started, liveness=None)


class _Elsewhere:
    """See `mesh.platforms.process.container.Runtime`: docker compose runs them, whatever is said here."""

    async def run(self, plan: ContainerPlan) -> "_Observed":
        return _Observed(ends=plan.is_init)

    async def exec(self, plan: ContainerPlan, command: Sequence[str], timeout_s: float) -> ExecResult:
        raise PlatformError(_NOT_HERE)


_NOT_HERE = "docker compose runs this container: use its own commands"


class _Observed:
    """A container's life as the node sees it: it is taken to run, and its probes say whether it is well. Compose has
    seen init containers end before it starts others."""

    is_running = True

    def __init__(self, *, ends: bool) -> None:
        self._ends = ends

    async def wait(self) -> int:
        if not self._ends:
            await asyncio.get_running_loop().create_future()
        return 0

    def signal(self, sig: Signals) -> None:
        raise PlatformError(_NOT_HERE)

    def pause(self) -> None:
        raise PlatformError(_NOT_HERE)

    def resume(self) -> None:
        raise PlatformError(_NOT_HERE)

    def kill(self) -> None:
        raise PlatformError(_NOT_HERE)

    async def end(self, grace_s: float) -> int:
        raise PlatformError(_NOT_HERE)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
