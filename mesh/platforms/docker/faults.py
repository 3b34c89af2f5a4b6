"""Faults on the network of one pod: rules in its own network, which neither its app nor its sidecar may change.

The rules are those that `netns` lays in its hub; here each pod has its own, so both ends of a wire are where they lie.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.api.pod_fault import Bandwidth, Delay, Direction, NetworkEffect
from mesh.platforms.base import Capability, LaidFault, PlatformError
from mesh.platforms.docker.engine import EngineError
from mesh.platforms.docker.infra import Infra
from mesh.platforms.netns.dns import Resolver
from mesh.platforms.netns.faults.network import NetworkFaults
from mesh.platforms.netns.faults.rules import CHAIN, JUMP

_NO_QUEUES = "packets wait in queues of the kernel, which the node cannot read in a container; use --platform netns"
_ENDED = (404, 409)

LACKING = {Capability.DELAY: _NO_QUEUES, Capability.BANDWIDTH: _NO_QUEUES}


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
        self._faults = NetworkFaults(self._restore, resolver)

    def lay(self, effect: NetworkEffect, direction: Direction, others: Sequence[str] | None) -> LaidFault:
        """Raises PlatformError."""
        if isinstance(effect, Delay | Bandwidth):
            raise PlatformError(_NO_QUEUES)
        return _Laid(self._faults.lay(self._infra.address, effect, direction, others))

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
