"""The xDS protocol in which responses say what changed, and a proxy that comes back says what it has (delta xDS)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from sys import intern
from typing import ClassVar

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest

from mesh.xds.ads.stream import Stream
from mesh.xds.ads.subscription import SetSubscription
from mesh.xds.resource import ResourceSet, delta_response
from mesh.xds.types import BY_URL, XdsType


class Incremental(Stream):
    """A stream of `DeltaAggregatedResources`."""

    TELLS_MISSING: ClassVar[bool] = True

    def _heard(self, request: DeltaDiscoveryRequest, now: datetime) -> XdsType | None:
        """An answer and a change of names may come in one request, or each in its own."""
        type_ = BY_URL.get(request.type_url)
        if type_ is None:
            return None
        refused = self._answered(type_, request, now)
        added, gone = _names(request.resource_names_subscribe), _names(request.resource_names_unsubscribe)
        subscription = self.sets.get(type_) or self.named[type_]
        subscription.change(added, gone, {intern(name): own for name, own in request.initial_resource_versions.items()})
        return type_ if refused else None

    def _answered(self, type_: XdsType, request: DeltaDiscoveryRequest, now: datetime) -> bool:
        """Whether the last response was refused."""
        subscription = self.subscriptions[type_]
        if not subscription.in_flight or request.response_nonce != subscription.in_flight:
            return False
        if request.HasField("error_detail"):
            subscription.refuse(request.error_detail.message, now)
            return True
        subscription.ack()
        return False

    def _set_bytes(self, subscription: SetSubscription, target: ResourceSet, nonce: str) -> bytes:
        """What is not as in the set that the proxy took last, and what it may have otherwise than it should."""
        former = subscription.held or ResourceSet(target.type)
        repeated = (part for own in subscription.repeated(target) for part in (own.head, own.encoded))
        gone = {own.name for own in target.gone_since(former)}
        gone.update(name for name in subscription.doubted if name not in target)
        entries = (target.delta_since(former), *repeated)
        return delta_response(target.type, target.version, nonce, entries, sorted(gone))

    def _named_bytes(self, found: ResourceSet, missing: Sequence[str], nonce: str) -> bytes:
        entries = (part for own in found for part in (own.head, own.encoded))
        return delta_response(found.type, found.version, nonce, entries, missing)


def _names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(map(intern, names))
