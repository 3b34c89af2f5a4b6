"""What one stream has asked for, was sent and has answered, of one type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mesh.xds.resource import Layer, Resource, ResourceSet, held
from mesh.xds.types import XdsType

WILDCARD: Final = "*"
_EVERYTHING: Final = frozenset({WILDCARD})


@dataclass(frozen=True, slots=True)
class Nack:
    """A refusal, in the proxy's words."""

    version: str
    message: str
    at: datetime


@dataclass(slots=True)
class Subscription:
    """State common to both ways of asking. `in_flight` is the nonce that has no answer yet.

    `resumed` says that the proxy had resources of this type from an earlier stream, and named their versions.
    """

    asked: bool = False
    resumed: bool = False
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
        return bool(self.in_flight) or (self.nack is not None and (self.resumed or bool(self.acked_version)))


@dataclass(slots=True)
class SetSubscription(Subscription):
    """CDS and LDS: the proxy is to have exactly one set, and what that leaves out is removed.

    `sent` is the last set sent, `held` the last one that the proxy took. `doubted` are the names of which nobody knows
    what the proxy has, as it refused a set that changed them, or asked for them again; `settling` are those of them
    that the response in flight settles. `told` says that `held` is by the proxy's own account.
    """

    type: XdsType = XdsType.CDS
    sent: ResourceSet | None = None
    held: ResourceSet | None = None
    doubted: set[str] = field(default_factory=set)
    settling: frozenset[str] = frozenset()
    told: bool = False
    _narrowed: tuple[str, frozenset[str], ResourceSet] | None = None

    @property
    def wildcard(self) -> bool:
        """Whether everything is asked for."""
        return WILDCARD in self.names

    def ask(self, names: frozenset[str]) -> None:
        """State of the world: these are all names. The protocol's rule: none at all, as long as there was none ever,
        asks for everything."""
        Subscription.ask(self, names if names or (self.asked and self.names != _EVERYTHING) else _EVERYTHING)

    def change(self, added: frozenset[str], gone: frozenset[str], versions: Mapping[str, str]) -> None:
        """Incremental: a subscription, whose first one may say what the proxy has already."""
        if not self.asked:
            self.resumed = self.told = bool(versions)
            if versions:
                self.held = ResourceSet(self.type, Layer(held(*entry) for entry in versions.items()))
            self.ask(added)
            self.doubted |= added - versions.keys() - _EVERYTHING  # so that a name of nothing is answered too
            return
        # Asked for again, it is to be sent again; and given up by name, it may still be one of everything.
        self.doubted |= (added | gone if self.wildcard else added) - _EVERYTHING
        Subscription.ask(self, (self.names | added) - gone)
        if self.held is not None and gone and not self.wildcard:
            self.held = self.held.only(self.names)

    def narrowed(self, whole: ResourceSet) -> ResourceSet:
        """What of the whole this client asked for."""
        if self.wildcard:
            return whole
        if self._narrowed is None or self._narrowed[:2] != (whole.version, self.names):
            self._narrowed = whole.version, self.names, whole.only(self.names)
        return self._narrowed[2]

    def has(self, target: ResourceSet) -> bool:
        """Whether the proxy took exactly this, and nothing since: Envoy keeps the good members of a set it refuses."""
        if self.nack is not None or self.doubted or self.told:
            return False
        return self.held is not None and self.held.version == target.version

    def wants(self, target: ResourceSet) -> bool:
        """Whether to send `target`: asked for, not taken already, not refused in this very version."""
        return self.asked and not self.in_flight and not self.has(target) and not self.refuses(target)

    def refuses(self, target: ResourceSet) -> bool:
        """Whether this very set is what the proxy refused last."""
        return self.nack is not None and self.nack.version == target.version

    def news(self, target: ResourceSet) -> tuple[Resource, ...]:
        """What of `target` is new to a proxy that has something, or may be."""
        changed = target.changed_since(self.held) if self.held is not None else ()
        return (*changed, *self.repeated(target))

    def repeated(self, target: ResourceSet) -> tuple[Resource, ...]:
        """What of `target` is in doubt, though it is as in the set that the proxy took last."""
        found = (target.get(name) for name in sorted(self.doubted))
        return tuple(own for own in found if own is not None and self._took(own))

    def send_set(self, target: ResourceSet, nonce: str) -> None:
        self.sent = target
        self.settling = frozenset(self.doubted)
        self.send(target.version, nonce)

    def ack(self) -> None:
        # The explicit form: zero-argument super() does not survive the class that slots=True makes anew.
        Subscription.ack(self)
        self.held = self.sent
        self.told = False
        self.doubted -= self.settling

    def refuse(self, message: str, at: datetime) -> None:
        Subscription.refuse(self, message, at)
        assert self.sent is not None
        former = self.held or ResourceSet(self.type)
        self.doubted.update(own.name for own in (*self.sent.changed_since(former), *self.sent.gone_since(former)))

    def _took(self, resource: Resource) -> bool:
        known = self.held.get(resource.name) if self.held is not None else None
        return known is not None and known.version == resource.version


@dataclass(slots=True)
class NamedSubscription(Subscription):
    """EDS, RDS and SDS: responses hold some of the names asked for, and what they leave out stays.

    `sent` are versions by name. `stale` are names that may differ from what was sent; None means all of them.
    `refused` are versions by name that the proxy refused and that were not replaced since. `awaited` are names that the
    proxy will ask for and has to be sent then, whatever versions it says it has.
    """

    sent: dict[str, str] = field(default_factory=dict)
    awaited: set[str] = field(default_factory=set)
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

    def change(self, added: frozenset[str], gone: frozenset[str], versions: Mapping[str, str]) -> None:
        """Incremental: these are asked for, maybe once more, and those no longer."""
        self.resumed |= bool(versions)
        self.forget(added & self.names)
        self.ask((self.names | added) - gone)
        has = added - self.awaited
        self.sent |= {name: version for name, version in versions.items() if name in has}
        self.awaited -= added

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
        self.awaited |= names - self.names
        self.touch(names)

    def take_stale(self) -> frozenset[str]:
        """The names to look at, which then count as looked at."""
        stale = self.names if self.stale is None else frozenset(self.stale)
        self.stale = set()
        return stale

    def forgive(self, names: Iterable[str]) -> None:
        """There is nothing to be had of these any more, so that the proxy refused them holds up nothing."""
        for name in names:
            self.refused.pop(name, None)
        if not self.refused:
            self.nack = None

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
