"""All faults that lie on the pods' networks. Each is undone by lifting it; the lab's end undoes them all."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh.api.pod_fault import Bandwidth, Delay, Direction, Dns, DnsAnswer, NetworkEffect
from mesh.platforms.base import LaidFault
from mesh.platforms.netns.dns import NO_NAME, SERVER_FAILURE, SILENCE, Resolver
from mesh.platforms.netns.faults.reader import QueueReader
from mesh.platforms.netns.faults.rules import JUMP, Cut, table
from mesh.platforms.netns.faults.shaper import Shaper

_CODES: Mapping[DnsAnswer, int] = {
    DnsAnswer.SERVFAIL: SERVER_FAILURE,
    DnsAnswer.NXDOMAIN: NO_NAME,
    DnsAnswer.TIMEOUT: SILENCE,
}
Restore = Callable[[str], object]


class Queues(Protocol):
    """Queues of packets in the network where the rules are. A `QueueReader` is one that reads them itself."""

    def open(self, shaper: Shaper) -> int:
        """The number of a fresh queue that is read from now on. Raises PlatformError."""

    def close(self, number: int) -> None:
        """To be called when no rule leads to the queue any more: all that waits goes on, then nobody reads it."""

    def close_all(self) -> None: ...


class NetworkFaults:
    """`restore` hands rules to `iptables-restore -n`: in the hub, in which this is made, unless `queues` are of another
    network too. Runs in one event loop."""

    def __init__(self, restore: Restore, resolver: Resolver, queues: Callable[[], Queues] = QueueReader) -> None:
        self._restore = restore
        self._resolver = resolver
        self._new_queues = queues
        self._cuts: list[_LaidCut] = []
        self._spoilt: list[_LaidDns] = []
        self._has_chain = False
        self._reader: Queues | None = None

    def lay(
        self, address: str, effect: NetworkEffect | Dns, direction: Direction, others: Sequence[str] | None
    ) -> LaidFault:
        """On the pod of that address, with the pods of those addresses or (None) all. Raises PlatformError."""
        if isinstance(effect, Dns):
            return self._lay_dns(address, effect)
        queues = self._open(effect) if isinstance(effect, Delay | Bandwidth) else (0, 0)
        laid = _LaidCut(self, Cut(address, effect, direction, others, queues))
        try:
            self._write([*self._cuts, laid])
        except BaseException:
            self._close(queues)
            raise
        self._cuts.append(laid)
        return laid

    def close(self) -> None:
        """The rules go with the hub."""
        if self._reader is not None:
            self._reader.close_all()
            self._reader = None

    def _open(self, effect: Delay | Bandwidth) -> tuple[int, int]:
        """A queue for each direction; which of them packets are led to, the rules say."""
        if self._reader is None:
            self._reader = self._new_queues()
        sent = self._reader.open(Shaper.of(effect))
        try:
            return sent, self._reader.open(Shaper.of(effect))
        except BaseException:
            self._reader.close(sent)
            raise

    def _write(self, laid: Sequence["_LaidCut"]) -> None:
        if not self._has_chain:
            self._restore(JUMP)
            self._has_chain = True
        self._restore(table(each.cut for each in laid))

    def _close(self, queues: tuple[int, int]) -> None:
        for number in queues:
            if number and self._reader is not None:
                self._reader.close(number)

    def lift_cut(self, laid: "_LaidCut") -> None:
        if laid in self._cuts:
            self._cuts.remove(laid)
            self._write(self._cuts)
            self._close(laid.cut.queues)

    def _lay_dns(self, address: str, effect: Dns) -> LaidFault:
        laid = _LaidDns(self, address, _CODES[effect.answer], _pattern(effect.patterns))
        self._spoilt.append(laid)
        self._resolver.spoiled = self._spoiled
        return laid

    def lift_dns(self, laid: "_LaidDns") -> None:
        if laid in self._spoilt:
            self._spoilt.remove(laid)
        if not self._spoilt:
            self._resolver.spoiled = None

    def _spoiled(self, asker: str, name: str) -> int | None:
        """The newest fault decides."""
        for laid in reversed(self._spoilt):
            if laid.address == asker and laid.names.fullmatch(name):
                return laid.code
        return None


@dataclass(eq=False)
class _LaidCut:
    faults: NetworkFaults
    cut: Cut

    def lift(self) -> None:
        self.faults.lift_cut(self)


@dataclass(eq=False)
class _LaidDns:
    faults: NetworkFaults
    address: str
    code: int
    names: re.Pattern[str]

    def lift(self) -> None:
        self.faults.lift_dns(self)


def _pattern(patterns: Sequence[str]) -> re.Pattern[str]:
    wild = {"*": ".*", "?": "."}
    return re.compile("|".join("".join(wild.get(c, re.escape(c)) for c in p.lower()) for p in patterns or ("*",)))
