"""The xDS protocol in which each response of clusters or listeners is the whole set, and each request all names."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from sys import intern

from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from mesh.xds.ads.stream import Stream
from mesh.xds.ads.subscription import SetSubscription
from mesh.xds.resource import ResourceSet
from mesh.xds.types import BY_URL, XdsType


class StateOfTheWorld(Stream):
    """A stream of `StreamAggregatedResources`."""

    def _heard(self, request: DiscoveryRequest, now: datetime) -> XdsType | None:
        """A request that answers anything but the last response is out of date: the proxy will answer that one too."""
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

    def _set_bytes(self, subscription: SetSubscription, target: ResourceSet, nonce: str) -> bytes:
        return target.response(nonce)

    def _named_bytes(self, found: ResourceSet, missing: Sequence[str], nonce: str) -> bytes:
        return found.response(nonce)
