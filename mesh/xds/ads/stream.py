"""One proxy's ADS stream, without the network: requests in, the next response out.

The order is make-before-break. New clusters are sent beside the old ones; when the proxy has taken them, with their
endpoints, listeners and then routes follow; and only when those are taken do the old clusters go. Whatever is sent
waits for the answer to what it depends on, so a response is never followed by one that the proxy cannot use yet.

There is no queue: at every step the next response is worked out from the latest configuration. A slow proxy misses
the states in between and holds up nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from sys import intern
from typing import Protocol

from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from mesh.xds.ads.subscription import Nack, NamedSubscription, SetSubscription, Subscription
from mesh.xds.ads.touched import Touched
from mesh.xds.resource import Layer, Resource, ResourceSet
from mesh.xds.types import BY_URL, WARMED_BY, XdsType


class Config(Protocol):
    """What a proxy is to have; `mesh.xds.ads.catalog.ProxyConfig` is one."""

    @property
    def resource_version(self) -> int: ...
    @property
    def clusters(self) -> ResourceSet: ...
    @property
    def listeners(self) -> ResourceSet: ...
    def endpoints(self, cluster: str) -> Resource | None: ...
    def no_endpoints(self, cluster: str) -> Resource: ...
    def routes(self, name: str) -> Resource | None: ...


class Stream:
    """State of a stream. `offer` what the proxy is to have, tell it each `request`, and send each `next_response`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._clusters, self._listeners = SetSubscription(), SetSubscription()
        self._endpoints, self._routes = NamedSubscription(), NamedSubscription()
        self._nonces = 0
        self.subscriptions: dict[XdsType, Subscription] = {
            XdsType.CDS: self._clusters,
            XdsType.EDS: self._endpoints,
            XdsType.LDS: self._listeners,
            XdsType.RDS: self._routes,
        }
        self.synced_version = 0
        self.is_settled = False

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

    def request(self, request: DiscoveryRequest, now: datetime) -> XdsType | None:
        """Take in a subscription, an ACK or a NACK. Returns the type that was refused, if one was.

        A request that answers anything but the last response is out of date: the proxy will answer that one too.
        """
        self.is_settled = False
        type_ = BY_URL.get(request.type_url)
        if type_ is None:
            return None
        subscription = self.subscriptions[type_]
        if subscription.last_nonce and request.response_nonce != subscription.last_nonce:
            return None
        refused = bool(subscription.in_flight) and request.HasField("error_detail")
        if refused:
            subscription.refuse(request.error_detail.message, now)
        elif subscription.in_flight:
            subscription.ack()
        subscription.ask(frozenset(map(intern, request.resource_names)))
        return type_ if refused else None

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
        """Down the order of dependence; each step is reached only when those before it have nothing to send."""
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
        if not _ready(self._listeners, self._routes):
            return None
        return self._set_response(XdsType.CDS, self._clusters, clusters)

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
        waiting = self.subscriptions[WARMED_BY[type_]]
        assert isinstance(waiting, NamedSubscription)
        waiting.forget(_waited_for(target, subscription))
        nonce = self._nonce()
        subscription.send_set(target, nonce)
        return type_, target.response(nonce)

    def _named_response(
        self, type_: XdsType, subscription: NamedSubscription, find: Callable[[str], Resource | None]
    ) -> tuple[XdsType, bytes] | None:
        if not subscription.asked or subscription.in_flight:
            return None
        found = (find(name) for name in sorted(subscription.take_stale()))
        changed = [own for own in found if own is not None and subscription.sent.get(own.name) != own.version]
        if not changed:
            return None
        nonce = self._nonce()
        response = ResourceSet(type_, Layer(changed))
        subscription.send_versions({own.name: own.version for own in changed}, response.version, nonce)
        return type_, response.response(nonce)

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
            all(subscription.has(target) for subscription, target in self._targets())
            and _ready(self._clusters, self._endpoints)
            and _ready(self._listeners, self._routes)
        )

    def _nonce(self) -> str:
        self._nonces += 1
        return str(self._nonces)


def _waited_for(target: ResourceSet, subscription: SetSubscription) -> frozenset[str]:
    """What the proxy will wait for again once it gets `target`.

    Where the last set was refused, each member may be as it was there, or as it was in the set taken before.
    """
    known = (own for own in (subscription.held, subscription.sent) if own is not None)
    return frozenset(name for own in known for changed in target.changed_since(own) for name in changed.wants)


def _ready(referring: SetSubscription, referred: NamedSubscription) -> bool:
    """Whether the proxy has taken a set with all that its members wait for, so that more may build on it."""
    if referring.holds_back or referred.holds_back:
        return False
    return referring.held is None or referring.held.waits_only_for(referred.names)
