"""PodFaults on the pods that are here: laid as the control plane has them, lifted as soon as it has them no more."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mesh.api.meta import WorkloadSelector
from mesh.api.pod_fault import TRAFFIC, Dns, Effect, Kill, Pause, PodFault
from mesh.config.decode import decode_object
from mesh.platforms.base import PROXY_CONTAINER, LaidFault, Platform, PlatformError, RunningPod
from mesh.platforms.node.manifests import FaultState
from mesh.platforms.node.watches import Changed, Listed
from mesh.platforms.node.worker import PodWorker

KIND = PodFault.KIND
_Place = tuple[str, str, str]
"""Namespace and name of a fault, and the pod on which it lies."""
_log = logging.getLogger("mesh.node")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """`others` are whom the pod's traffic is disturbed with, None for everybody."""

    fault: PodFault
    pod: RunningPod
    others: tuple[RunningPod, ...] | None

    def is_same(self, other: "_Wanted") -> bool:
        """Whether nothing would be different. A fault that was written again as it was is the same one."""
        mine, its = self.fault, other.fault
        return (mine.metadata.uid, mine.spec, self.others) == (its.metadata.uid, its.spec, other.others)


class PodFaults:
    """What is in force, and what is refused and why, is told to the pods' workers, which tell the control plane."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._faults: dict[tuple[str, str], PodFault] = {}
        self._laid: dict[_Place, tuple[_Wanted, LaidFault]] = {}

    def take(self, change: Listed | Changed) -> None:
        """A change of the control plane's; `reconcile` is to follow."""
        if isinstance(change, Listed):
            self._faults.clear()
        for document in change.objects if isinstance(change, Listed) else [change.object]:
            fault = decode_object(document).resource
            assert isinstance(fault, PodFault)
            if isinstance(change, Changed) and change.deleted:
                self._faults.pop((fault.namespace, fault.name), None)
            else:
                self._faults[fault.namespace, fault.name] = fault

    def reconcile(self, workers: Sequence[PodWorker]) -> None:
        """On the pods of these workers lies what should, and nowhere anything else."""
        told: dict[str, list[FaultState]] = {worker.name: [] for worker in workers}
        lying: set[_Place] = set()
        for (namespace, name), fault in self._faults.items():
            for worker, pod in _selected(workers, namespace, fault.spec.selector):
                place = namespace, name, worker.name
                refusal = self._try(place, fault, pod, workers)
                if not refusal:
                    lying.add(place)
                told[worker.name].append(FaultState(name, fault.metadata.uid, refusal))
        for place in self._laid.keys() - lying:
            self._lift(place)
        for worker in workers:
            worker.tell_faults(told[worker.name])

    def lift_all(self) -> None:
        for place in list(self._laid):
            self._lift(place)

    def _try(self, place: _Place, fault: PodFault, pod: RunningPod, workers: Sequence[PodWorker]) -> str:
        """Makes sure that the fault lies there. Why it cannot, or nothing."""
        try:
            self._lay(place, _Wanted(fault, pod, _others(fault, pod, workers)))
        except PlatformError as error:
            return str(error)
        return ""

    def _lay(self, place: _Place, wanted: _Wanted) -> None:
        present = self._laid.get(place)
        if present is not None and present[0].is_same(wanted):
            return
        if present is not None and wanted.fault.spec.kind not in TRAFFIC:
            self._lift(place)
        laid = self._put(wanted)
        self._laid[place] = wanted, laid
        _log.info("fault %s/%s: %s on pod %s", *place[:2], wanted.fault.spec.kind, place[2])
        if present is not None:  # of traffic the new one lies before the old one goes, so that nothing slips through
            present[1].lift()

    def _put(self, wanted: _Wanted) -> LaidFault:
        effect: Effect = wanted.fault.spec.effect
        if isinstance(effect, Pause | Kill):
            return _OnProcesses(effect, wanted.pod)
        others = None if isinstance(effect, Dns) else wanted.others
        return self._platform.disturb(wanted.pod, effect, wanted.fault.spec.direction, others)

    def _lift(self, place: _Place) -> None:
        _, laid = self._laid.pop(place)
        laid.lift()
        _log.info("fault %s/%s is lifted from pod %s", *place)


class _OnProcesses:
    """Raises PlatformError for a container that the pod does not have."""

    def __init__(self, effect: Pause | Kill, pod: RunningPod) -> None:
        apps = [container.name for container in pod.pod.spec.containers if container.name != PROXY_CONTAINER]
        containers = [effect.container] if effect.container else apps
        self._pod = pod
        self._paused = containers if isinstance(effect, Pause) else []
        for name in containers:
            if isinstance(effect, Pause):
                pod.pause(name)
            else:
                pod.kill(name)

    def lift(self) -> None:
        while self._paused:
            self._pod.resume(self._paused.pop())


def _others(fault: PodFault, pod: RunningPod, workers: Sequence[PodWorker]) -> tuple[RunningPod, ...] | None:
    """Raises PlatformError where the fault has a target that nobody is."""
    if fault.spec.target is None:
        return None
    found = [other for _, other in _selected(workers, fault.namespace, fault.spec.target)]
    if not found:
        raise PlatformError("no pod has the labels of its target")
    return tuple(other for other in found if other is not pod)


def _selected(
    workers: Sequence[PodWorker], namespace: str, selector: WorkloadSelector
) -> Iterator[tuple[PodWorker, RunningPod]]:
    wanted = selector.match_labels.items()
    for worker in workers:
        if worker.owner.namespace == namespace and wanted <= worker.labels.items() and worker.running is not None:
            yield worker, worker.running
