"""What one stream has asked for, was sent and has answered, of one type."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from mesh.xds.resource import ResourceSet


@dataclass(frozen=True, slots=True)
class Nack:
    """A refusal, in the proxy's words."""

    version: str
    message: str
    at: datetime


@dataclass(slots=True)
class Subscription:
    """State common to both ways of asking. `in_flight` is the nonce that has no answer yet."""

    asked: bool = False
    names: frozenset[str] = frozenset()
    in_flight: str = ""
    last_nonce: str = ""
    sent_version: str = ""
    acked_version: str = ""
    nack: Nack | None = None

    def ask(self, names: frozenset[str]) -> None:
        self.asked = True
        self.names = names

    def send(self, version: str, nonce: str) -> None:
        self.sent_version = version
        self.in_flight = self.last_nonce = nonce

    def ack(self) -> None:
        self.in_flight = ""
        self.acked_version = self.sent_version
        self.nack = None

    def refuse(self, message: str, at: datetime) -> None:
        self.in_flight = ""
        self.nack = Nack(self.sent_version, message, at)

    @property
    def holds_back(self) -> bool:
        """Whether what depends on this type must wait: unanswered, or refused by a proxy that had it right before.

        A proxy that never had any is better off with what it can take than with nothing.
        """
        return bool(self.in_flight) or (self.nack is not None and bool(self.acked_version))


@dataclass(slots=True)
class SetSubscription(Subscription):
    """CDS and LDS: every response is the whole set, and what it leaves out is removed.

    `sent` is the last set sent, `held` the last one that the proxy took.
    """

    sent: ResourceSet | None = None
    held: ResourceSet | None = None

    @property
    def wildcard(self) -> bool:
        """The xDS protocol's rule: no names at all, or `*`, ask for everything."""
        return not self.names or "*" in self.names

    def narrowed(self, whole: ResourceSet) -> ResourceSet:
        """What of the whole this client asked for."""
        return whole if self.wildcard else whole.only(self.names)

    def has(self, target: ResourceSet) -> bool:
        """Whether the proxy took exactly this, and nothing since: Envoy keeps the good members of a set it refuses."""
        return self.nack is None and self.held is not None and self.held.version == target.version

    def wants(self, target: ResourceSet) -> bool:
        """Whether to send `target`: asked for, not taken already, not refused in this very version."""
        return self.asked and not self.in_flight and not self.has(target) and not self.refuses(target)

    def refuses(self, target: ResourceSet) -> bool:
        """Whether this very set is what the proxy refused last."""
        return self.nack is not None and self.nack.version == target.version

    def send_set(self, target: ResourceSet, nonce: str) -> None:
        self.sent = target
        self.send(target.version, nonce)

    def ack(self) -> None:
        # The explicit form: zero-argument super() does not survive the class that slots=True makes anew.
        Subscription.ack(self)
        self.held = self.sent


@dataclass(slots=True)
class NamedSubscription(Subscription):
    """EDS and RDS: responses hold some of the names asked for, and what they leave out stays.

    `sent` are versions by name. `stale` are names that may differ from what was sent; None means all of them.
    `refused` are versions by name that the proxy refused and that were not replaced since.
    """

    sent: dict[str, str] = field(default_factory=dict)
    stale: set[str] | None = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    sending: dict[str, str] = field(default_factory=dict)

    def ask(self, names: frozenset[str]) -> None:
        if names == self.names:
            self.asked = True
            return
        if self.stale is not None:
            self.stale |= names - self.names
        for name in self.names - names:
            self.sent.pop(name, None)
            self.refused.pop(name, None)
        Subscription.ask(self, names)

    def touch(self, names: frozenset[str] | None) -> None:
        """These may have changed; None means any may."""
        if names is None:
            self.stale = None
        elif self.stale is not None:
            self.stale |= names & self.names

    def forget(self, names: frozenset[str]) -> None:
        """The proxy waits for these again, whatever it was sent before."""
        for name in names:
            self.sent.pop(name, None)
        self.touch(names)

    def take_stale(self) -> frozenset[str]:
        """The names to look at, which then count as looked at."""
        stale = self.names if self.stale is None else frozenset(self.stale)
        self.stale = set()
        return stale

    def send_versions(self, versions: dict[str, str], version: str, nonce: str) -> None:
        self.sent |= versions
        self.sending = versions
        self.send(version, nonce)

    def ack(self) -> None:
        for name in self.sending:
            self.refused.pop(name, None)
        former = self.nack
        Subscription.ack(self)
        self.nack = former if self.refused else None

    def refuse(self, message: str, at: datetime) -> None:
        self.refused |= self.sending
        Subscription.refuse(self, message, at)
