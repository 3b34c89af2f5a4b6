"""Reconciles Deployments into pods, and reports what became of them."""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from typing import Any

from mesh.api.pod import Deployment, DeploymentSpec, Pod
from mesh.config.decode import Manifest, decode_object
from mesh.injector.inject import InjectionError, ProxySettings, inject
from mesh.platforms.base import Platform
from mesh.platforms.node.api import NodeApi
from mesh.platforms.node.inventory import KINDS, SURROUNDING, Inventory, as_surroundings
from mesh.platforms.node.manifests import HASH_LABEL, pod_manifest, pod_name
from mesh.platforms.node.pod_faults import KIND as POD_FAULT
from mesh.platforms.node.pod_faults import PodFaults
from mesh.platforms.node.rollout import PodView, StrategyError, next_step, read_strategy, template_hash
from mesh.platforms.node.watches import Changed, Follower, Listed
from mesh.platforms.node.worker import Owner, PodWorker
from mesh.platforms.process.container import Spawn

ROTATE_ANNOTATION = "meshdrill.dev/rotate-requested-at"

_log = logging.getLogger("mesh.node")


class Node:
    """Runs in one event loop. `changed` is set after every change of a pod, for whoever shows progress."""

    def __init__(self, platform: Platform, api: NodeApi, proxies: ProxySettings, spawn: Spawn) -> None:
        self.changed = asyncio.Event()
        self.problems: dict[tuple[str, str], str] = {}
        self._platform = platform
        self._api = api
        self._proxies = proxies
        self._spawn = spawn
        self._inventory = Inventory()
        self._pod_faults = PodFaults(platform)
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._rotations: dict[str, str] = {}
        self._dirty = asyncio.Event()
        self._followers: list[Follower] = []
        self._rng = random.Random()

    def start(self, manifests: Sequence[Manifest]) -> None:
        """Begins with `manifests`, which the control plane is about to be given."""
        self._inventory.seed(manifests)
        self._dirty.set()
        self._spawn(self._reconcile_for_ever())

    def follow(self) -> None:
        """From now on the control plane says what is to run."""
        self._api.open.set()
        kinds = (*KINDS, "Pod", POD_FAULT)
        self._followers = [Follower(self._api.client, kind, self._take) for kind in kinds]

    def workers(self) -> list[PodWorker]:
        """The pods that are not being stopped, by name."""
        return sorted((w for w in self._workers.values() if not w.stopping), key=lambda worker: worker.name)

    def wanted(self) -> int:
        """How many pods there should be."""
        return sum(_spec(deployment).replicas for deployment in self._inventory.deployments())

    def close(self) -> None:
        """Stops following, and lifts what lies on pods. The platform ends them."""
        for follower in self._followers:
            follower.close()
        self._pod_faults.lift_all()

    def _take(self, change: Listed | Changed) -> None:
        if change.kind == "Pod":
            self._take_pods(change)
        elif change.kind == POD_FAULT:
            self._pod_faults.take(change)
        else:
            self._inventory.take(change)
            self._try_again()
        self._dirty.set()

    def _try_again(self) -> None:
        """What a pod's environment needed may be there now."""
        for worker in self.workers():
            if worker.is_refused:
                self._stop(worker)

    def _take_pods(self, change: Listed | Changed) -> None:
        if isinstance(change, Listed):
            for known in self.workers():
                if known.object.is_gone(change):
                    self._object_is_gone(known)
            return
        worker = self._workers.get(change.object["metadata"]["name"])
        if worker is None and not change.deleted:
            self._delete_stray(change.object)
        if worker is None or worker.stopping:
            return
        if change.deleted:
            self._object_is_gone(worker)
        else:
            self._rotate_if_asked(worker, change.object["metadata"].get("annotations") or {})

    def _delete_stray(self, manifest: dict[str, Any]) -> None:
        """An object of ours that was written while its pod was already being ended."""
        if HASH_LABEL in (manifest["metadata"].get("labels") or {}):
            self._spawn(self._api.delete_pod(manifest))

    def _object_is_gone(self, worker: PodWorker) -> None:
        worker.object.exists = False
        _log.info("pod %s was deleted", worker.name)
        self._stop(worker)

    def _rotate_if_asked(self, worker: PodWorker, annotations: dict[str, str]) -> None:
        asked = annotations.get(ROTATE_ANNOTATION, "")
        if asked != self._rotations.get(worker.name, ""):
            self._rotations[worker.name] = asked
            if asked:
                worker.renew_certificate()

    async def _reconcile_for_ever(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            for deployment in list(self._inventory.deployments()):
                self._reconcile(deployment)
            for worker in self.workers():
                if not self._inventory.has_deployment(worker.owner.namespace, worker.owner.deployment):
                    self._stop(worker)
            self._pod_faults.reconcile(self.workers())

    def _reconcile(self, deployment: Manifest) -> None:
        name, namespace = deployment.resource.name, deployment.resource.namespace
        template = deployment.raw["spec"]["template"]
        hash_ = template_hash(template)
        mine = [w for w in self.workers() if (w.owner.namespace, w.owner.deployment) == (namespace, name)]
        now = time.monotonic()
        views = [PodView(w.name, w.owner.template, w.ready, now - w.born) for w in mine]
        try:
            strategy = read_strategy(deployment.raw["spec"])
        except StrategyError as error:
            self._refuse(namespace, name, error)
            return
        step = next_step(_spec(deployment).replicas, hash_, views, strategy)
        for _ in range(step.create):
            self._create(deployment, Owner(namespace, name, hash_))
        for doomed in step.stop:
            self._stop(self._workers[doomed])

    def _refuse(self, namespace: str, name: str, why: ValueError) -> None:
        if self.problems.get((namespace, name)) != str(why):
            _log.error("deployment %s/%s: %s", namespace, name, why)
            self.problems[namespace, name] = str(why)
            self.changed.set()

    def _create(self, deployment: Manifest, owner: Owner) -> None:
        try:
            template = inject(deployment.raw["spec"]["template"], owner.deployment, self._proxies)
        except InjectionError as error:
            self._refuse(owner.namespace, owner.deployment, error)
            return
        self.problems.pop((owner.namespace, owner.deployment), None)
        name = pod_name(owner.deployment, owner.template, self._rng)
        manifest = pod_manifest(deployment.raw, template, name, owner.template)
        pod = decode_object(manifest).resource
        assert isinstance(pod, Pod)
        worker = PodWorker(manifest, pod, owner, self._api, self._changed)
        self._workers[name] = worker
        self._tasks[name] = self._spawn(self._run(worker, "resourceVersion" in deployment.raw["metadata"]))

    async def _run(self, worker: PodWorker, is_stored: bool) -> None:
        """Each kind is watched by itself, so a Deployment may be here before the Services that were stored with it.

        What is not stored yet is the mesh's first manifests, of which all kinds are here.
        """
        namespace = worker.owner.namespace
        surroundings = self._inventory.surroundings(namespace)
        if is_stored:
            listed = [await self._api.call(self._api.client.list, kind, namespace) for kind in SURROUNDING]
            surroundings = as_surroundings(decode_object(item) for found in listed for item in found.items)
        await worker.run(self._platform, surroundings)

    def _stop(self, worker: PodWorker) -> None:
        worker.stopping = True
        self._spawn(self._end(worker))

    async def _end(self, worker: PodWorker) -> None:
        self._tasks.pop(worker.name).cancel()
        await worker.stop()
        del self._workers[worker.name]
        self._rotations.pop(worker.name, None)
        self._changed()

    def _changed(self) -> None:
        self.changed.set()
        self._dirty.set()


def _spec(deployment: Manifest) -> DeploymentSpec:
    assert isinstance(deployment.resource, Deployment)
    return deployment.resource.spec
