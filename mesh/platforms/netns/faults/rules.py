"""The hub's rules of all faults that lie on the lab's pods, always written as a whole. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mesh.api.pod_fault import Bandwidth, Delay, Direction, Loss, NetworkEffect, Partition

CHAIN = "MESHDRILL-FAULTS"

JUMP = f"*filter\n:{CHAIN} - [0:0]\n-I FORWARD -j {CHAIN}\nCOMMIT\n"
"""Once, before the first fault. FORWARD sees all that pods exchange, and nothing of what the node says itself. First of
all, so that no rule that lets packets pass lets them pass a fault."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One fault of one pod. `others` are the addresses of whom it exchanges packets with, None for everybody.

    `queues` are the numbers of its NFQUEUEs, of what it sends and of what it receives, where it needs any.
    """

    address: str
    effect: NetworkEffect
    direction: Direction
    others: Sequence[str] | None = None
    queues: tuple[int, int] = (0, 0)


def is_queued(effect: NetworkEffect) -> bool:
    return isinstance(effect, Delay | Bandwidth)


def table(cuts: Iterable[Cut]) -> str:
    """The input of `iptables-restore -n`, which replaces the chain's content in one step.

    What is dropped needs no answer, what is reset must not be lost first, and who waits has survived all of these.
    """
    ordered = sorted(cuts, key=lambda cut: _rank(cut.effect))
    lines = [f"-A {CHAIN} {rule}" for cut in ordered for rule in _rules(cut)]
    return "\n".join(("*filter", f":{CHAIN} - [0:0]", *lines, "COMMIT", ""))


def _rank(effect: NetworkEffect) -> int:
    if is_queued(effect):
        return 3
    return 0 if isinstance(effect, Partition) else 2 if isinstance(effect, Loss) else 1


def _rules(cut: Cut) -> Iterable[str]:
    whom = [""] if cut.others is None else cut.others
    for other in whom:
        if cut.direction is not Direction.FROM:
            yield " ".join((_between(cut.address, other), _verdict(cut.effect, cut.queues[0])))
        if cut.direction is not Direction.TO:
            yield " ".join((_between(other, cut.address), _verdict(cut.effect, cut.queues[1])))


def _between(source: str, destination: str) -> str:
    ends = (("-s", source), ("-d", destination))
    return " ".join(f"{option} {address}/32" for option, address in ends if address)


def _verdict(effect: NetworkEffect, queue: int) -> str:
    if isinstance(effect, Partition):
        return "-j DROP"
    if isinstance(effect, Loss):
        return f"-m statistic --mode random --probability {effect.percent / 100:.9f} -j DROP"
    if is_queued(effect):
        # Without a reader the packets pass: a fault may end early, but must never become a partition.
        return f"-j NFQUEUE --queue-num {queue} --queue-bypass"
    return "-p tcp -j REJECT --reject-with tcp-reset"
