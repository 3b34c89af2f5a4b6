"""One proxy's ADS stream, without the network: requests in, the next response out.

The order is make-before-break. New clusters are sent beside the old ones; when the proxy has taken them, with their
endpoints, listeners and then routes follow; and only when those are taken do the old clusters go. Whatever is sent
waits for the answer to what it depends on, so a response is never followed by one that the proxy cannot use yet.

How requests and responses look is the protocol's: `StateOfTheWorld` and `Incremental` are streams of either kind.

There is no queue: at every step the next response is worked out from the latest configuration. A slow proxy misses
the states in between and holds up nobody.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeAlias

from mesh.xds.ads.subscription import Nack, NamedSubscription, SetSubscription, Subscription
from mesh.xds.ads.touched import Touched
from mesh.xds.resource import Layer, Resource, ResourceSet
from mesh.xds.types import WARMED_BY, XdsType

_NOTHING = ""  # the version of what there is not


class Config(Protocol):
    """What a proxy is to have; `mesh.xds.ads.catalog.ProxyConfig` is one.

    `on_demand`: that it need not ask for clusters or listeners at all. `secret_names` are those that its listeners ask
    for.
    """

    @property
    def on_demand(self) -> bool: ...
    @property
    def resource_version(self) -> int: ...
    @property
    def clusters(self) -> ResourceSet: ...
    @property
    def listeners(self) -> ResourceSet: ...
    def endpoints(self, cluster: str) -> Resource | None: ...
    def no_endpoints(self, cluster: str) -> Resource: ...
    def routes(self, name: str) -> Resource | None: ...
    @property
    def secret_names(self) -> frozenset[str]: ...
    def secrets(self, name: str) -> Resource | None: ...


class Stream(ABC):
    """State of a stream. `offer` what the proxy is to have, tell it each `request`, and send each `next_response`.

    `TELLS_MISSING`: whether the protocol can say that there is no resource of a name.
    """

    TELLS_MISSING: ClassVar[bool] = False

    def __init__(self, config: Config) -> None:
        self._config = config
        self._clusters, self._listeners = SetSubscription(type=XdsType.CDS), SetSubscription(type=XdsType.LDS)
        self._endpoints, self._routes = NamedSubscription(), NamedSubscription()
        self._secrets = NamedSubscription()
        self._nonces = 0
        self.sets = {XdsType.CDS: self._clusters, XdsType.LDS: self._listeners}
        self.named = {XdsType.EDS: self._endpoints, XdsType.RDS: self._routes, XdsType.SDS: self._secrets}
        self.subscriptions: dict[XdsType, Subscription] = {
            XdsType.CDS: self._clusters,
            XdsType.EDS: self._endpoints,
            XdsType.LDS: self._listeners,
            XdsType.RDS: self._routes,
            XdsType.SDS: self._secrets,
        }
        self.synced_version = 0
        self.is_settled = False

    @abstractmethod
    def _heard(self, request: Any, now: datetime) -> XdsType | None:
        """Take in what was said. The type that was refused, if one was."""

    @abstractmethod
    def _set_bytes(self, subscription: SetSubscription, target: ResourceSet, nonce: str) -> bytes:
        """The encoded response that makes the proxy's set `target`."""

    @abstractmethod
    def _named_bytes(self, found: ResourceSet, missing: Sequence[str], nonce: str) -> bytes:
        """The encoded response that brings `found`, and says that there is nothing called `missing`."""

    @property
    def offered_version(self) -> int:
        """The store's version that the stream is working towards."""
        return self._config.resource_version

    @property
    def nacks(self) -> dict[XdsType, Nack]:
        """Refusals that stand."""
        return {type_: own.nack for type_, own in self.subscriptions.items() if own.nack is not None}

    def offer(self, config: Config, touched: Touched) -> None:
        """The proxy is to have `config` from now on; `touched` is what may differ from the one before."""
        self._config = config
        self.is_settled = False
        self._endpoints.touch(touched.endpoints)
        if touched.routes:
            self._routes.touch(None)
            self._secrets.touch(None)

    def request(self, request: Any, now: datetime) -> XdsType | None:
        """Take in a subscription, an ACK or a NACK. Returns the type that was refused, if one was."""
        self.is_settled = False
        return self._heard(request, now)

    def next_response(self) -> tuple[XdsType, bytes] | None:
        """The next encoded DiscoveryResponse, None when there is nothing to send before the next request or offer."""
        response = self._next()
        if response is None:
            # From here on a refusal stands: nothing newer is on its way, nor about to be sent.
            self.is_settled = not any(own.in_flight for own in self.subscriptions.values())
            if self._is_synced():
                self.synced_version = self._config.resource_version
        return response

    def _next(self) -> tuple[XdsType, bytes] | None:
        """Down the order of dependence; each step is reached only when those before it have nothing to send.

        Secrets depend on nothing, and all that asks for one waits for it.
        """
        if found := self._named_response(XdsType.SDS, self._secrets, self._config.secrets):
            return found
        clusters = self._clusters.narrowed(self._config.clusters)
        if found := self._set_response(XdsType.CDS, self._clusters, self._beside_old(clusters)):
            return found
        if found := self._named_response(XdsType.EDS, self._endpoints, self._endpoints_of):
            return found
        if not _ready(self._clusters, self._endpoints):
            return None
        listeners = self._listeners.narrowed(self._config.listeners)
        if found := self._set_response(XdsType.LDS, self._listeners, listeners):
            return found
        if self._listeners.holds_back:
            return None
        if found := self._named_response(XdsType.RDS, self._routes, self._config.routes):
            return found
        if not _ready(self._listeners, self._routes) or self._is_still_resuming():
            return None
        return self._set_response(XdsType.CDS, self._clusters, clusters)

    def _is_still_resuming(self) -> bool:
        """A proxy that came back with clusters of earlier has routes to them, and has yet to ask for newer ones."""
        return self._clusters.resumed and self._clusters.wildcard and not self._listeners.asked

    def _beside_old(self, target: ResourceSet) -> ResourceSet:
        """The wanted clusters and those that the proxy still routes to; what it has, if that comes to the same."""
        held = self._clusters.held
        old = target.gone_since(held) if held is not None else ()
        if held is None or not old:
            return target
        if not target.changed_since(held):
            return target if self._clusters.refuses(target) else held
        return ResourceSet(target.type, *target.layers, Layer(old))

    def _set_response(
        self, type_: XdsType, subscription: SetSubscription, target: ResourceSet
    ) -> tuple[XdsType, bytes] | None:
        if not subscription.wants(target):
            return None
        # Envoy waits for these once it gets `target`, whatever it was sent before.
        awaited = frozenset(name for own in subscription.news(target) for name in own.wants)
        self.named[WARMED_BY[type_]].forget(awaited)
        nonce = self._nonce()
        encoded = self._set_bytes(subscription, target, nonce)
        subscription.send_set(target, nonce)
        return type_, encoded

    def _named_response(
        self, type_: XdsType, subscription: NamedSubscription, find: Callable[[str], Resource | None]
    ) -> tuple[XdsType, bytes] | None:
        if not subscription.asked or subscription.in_flight:
            return None
        found = {name: find(name) for name in sorted(subscription.take_stale())}
        subscription.forgive(name for name, own in found.items() if own is None)
        changed = [own for own in found.values() if own is not None and subscription.sent.get(own.name) != own.version]
        missing = [name for name, own in found.items() if own is None and name not in subscription.sent]
        if not changed and not (missing and self.TELLS_MISSING):
            return None
        nonce = self._nonce()
        response = ResourceSet(type_, Layer(changed))
        versions = {own.name: own.version for own in changed} | dict.fromkeys(missing, _NOTHING)
        subscription.send_versions(versions, response.version, nonce)
        return type_, self._named_bytes(response, missing, nonce)

    def _endpoints_of(self, cluster: str) -> Resource | None:
        """A cluster that is going keeps its endpoints to the end; one nobody knows gets none, or it would wait."""
        known = self._config.endpoints(cluster)
        if known is None and cluster not in self._endpoints.sent:
            return self._config.no_endpoints(cluster)
        return known

    def _targets(self) -> tuple[tuple[SetSubscription, ResourceSet], ...]:
        return (
            (self._clusters, self._clusters.narrowed(self._config.clusters)),
            (self._listeners, self._listeners.narrowed(self._config.listeners)),
        )

    def _is_synced(self) -> bool:
        """Whether the proxy has taken all of the configuration, and asked for all that it leads to."""
        if self.nacks or any(own.in_flight for own in self.subscriptions.values()):
            return False
        return (
            all(own.has(target) or (self._config.on_demand and not own.asked) for own, target in self._targets())
            and _ready(self._clusters, self._endpoints)
            and _ready(self._listeners, self._routes)
            and self._config.secret_names <= self._secrets.names
        )

    def _nonce(self) -> str:
        self._nonces += 1
        return str(self._nonces)


StreamOf: TypeAlias = Callable[[Config], Stream]
"""Opens a stream of one protocol for a proxy that is to have this configuration."""


def _ready(referring: SetSubscription, referred: NamedSubscription) -> bool:
    """Whether the proxy has taken a set with all that its members wait for, so that more may build on it."""
    if referring.holds_back or referred.holds_back:
        return False
    return referring.held is None or referring.held.waits_only_for(referred.names)
