"""Faults on the network of one pod: rules in its own network, which neither its app nor its sidecar may change.

The rules are those that `netns` lays in its hub; here each pod has its own, so both ends of a wire are where they lie.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mesh.api.pod_fault import Direction, NetworkEffect
from mesh.platforms.base import Capability, LaidFault
from mesh.platforms.docker.engine import EngineError
from mesh.platforms.docker.infra import Infra
from mesh.platforms.docker.queue_process import LACKING
from mesh.platforms.docker.queues import READER, PodQueues
from mesh.platforms.netns.dns import Resolver
from mesh.platforms.netns.faults.network import NetworkFaults
from mesh.platforms.netns.faults.rules import CHAIN, JUMP

_ENDED = (404, 409)


def lacking(infra: Infra) -> Mapping[Capability, str]:
    """Why each network fault that cannot be laid here cannot, found out in a pod's network. Blocks.

    Raises PlatformError.
    """
    return {Capability(name): why for name, why in json.loads(infra.run([*READER, LACKING])).items()}


class PodFaults:
    """`control` is the address of DNS and the control plane, which no fault parts from a pod. Blocks for a moment."""

    def __init__(self, infra: Infra, control: str, resolver: Resolver) -> None:
        self._infra = infra
        # What the pod says to itself, and what the sidecar captures, passes over lo.
        self._jump = (
            f"*filter\n:{CHAIN} - [0:0]\n"
            f"-A INPUT ! -i lo ! -s {control}/32 -j {CHAIN}\n"
            f"-A OUTPUT ! -o lo ! -d {control}/32 -j {CHAIN}\n"
            "COMMIT\n"
        )
        self._queues = PodQueues(infra)
        self._faults = NetworkFaults(self._restore, resolver, lambda: self._queues)

    def lay(self, effect: NetworkEffect, direction: Direction, others: Sequence[str] | None) -> LaidFault:
        """Raises PlatformError."""
        return _Laid(self._faults.lay(self._infra.address, effect, direction, others))

    def close(self) -> None:
        """The rules go with the pod, and so do the queues."""
        self._queues.close_all()

    def _restore(self, rules: str) -> None:
        self._infra.restore(self._jump if rules == JUMP else rules)


@dataclass(frozen=True, slots=True)
class _Laid:
    laid: LaidFault

    def lift(self) -> None:
        try:
            self.laid.lift()
        except EngineError as error:
            if error.status not in _ENDED:  # with the pod its rules have gone
                raise
