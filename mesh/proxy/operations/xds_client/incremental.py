"""The incremental protocol of one ADS stream, as a value machine: responses in, requests out, no I/O.

Per type the client remembers which names it asked for and the version of each resource that it has. Subscriptions and
answers are requests apart: one with a nonce is an ACK, or a NACK if it has an `error_detail`. The first request of a
type on a stream names the versions held from streams before, so that the control plane sends what changed since.
(Envoy: "xDS REST and gRPC protocol", "Incremental xDS".)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from google.rpc.code_pb2 import INVALID_ARGUMENT

from mesh.proxy.operations.references import Kind
from mesh.proxy.operations.xds_client.kinds import KINDS, MESSAGES, TYPE_URLS, WILDCARDS
from mesh.proxy.operations.xds_client.update import Update, unpack
from mesh.proxy.resources import Refused


@dataclass(slots=True)
class _Subscription:
    """`versions` are those of the resources that were accepted, on any stream."""

    names: frozenset[str] = frozenset()
    versions: dict[str, str] = field(default_factory=dict)
    is_open: bool = False


@dataclass(slots=True)
class IncrementalSubscriptions:
    """What has been asked for on the stream, and what was accepted on any stream before it."""

    node: Node
    _by_kind: dict[Kind, _Subscription] = field(default_factory=lambda: {kind: _Subscription() for kind in MESSAGES})
    _node_sent: bool = False

    def begin(self) -> None:
        """A new stream: nothing is subscribed on it; accepted versions are kept."""
        self._node_sent = False
        for subscription in self._by_kind.values():
            subscription.is_open = False

    def read(self, response: DeltaDiscoveryResponse) -> Update:
        """What `response` asks for. Raises Refused."""
        kind = KINDS[response.type_url]
        messages = unpack(kind, (resource.resource for resource in response.resources))
        for resource in response.resources:
            if resource.name not in messages:
                label = MESSAGES[kind].DESCRIPTOR.name
                raise Refused(label, resource.name, "", "is not the name of the message that it carries")
            if resource.HasField("ttl"):
                raise Refused(MESSAGES[kind].DESCRIPTOR.name, resource.name, "ttl", "not supported by this sidecar")
        return Update(
            messages,
            response.system_version_info,
            removed=frozenset(response.removed_resources),
            versions={resource.name: resource.version for resource in response.resources},
        )

    def subscribe(
        self, kind: Kind, names: Collection[str] = (), held: Collection[str] = ()
    ) -> DeltaDiscoveryRequest | None:
        """The request that makes the stream deliver `names` of `kind` (all clusters, all listeners), if one is due.

        What was accepted and is not `held` any more is asked for once more. No name on a fresh subscription would mean
        a wildcard, so nothing is sent until there is one.
        """
        subscription = self._by_kind[kind]
        if kind in WILDCARDS:
            return None if subscription.is_open else self._open(kind, frozenset())
        wanted, known = frozenset(names), subscription.versions
        forgotten = frozenset(name for name in known if name in wanted and name not in held)
        subscription.versions = {name: known[name] for name in known if name in wanted and name not in forgotten}
        if not subscription.is_open:
            return self._open(kind, wanted) if wanted else None
        added, gone = wanted - subscription.names | forgotten, subscription.names - wanted
        if not added and not gone:
            return None
        subscription.names = wanted
        return self._request(kind, resource_names_subscribe=sorted(added), resource_names_unsubscribe=sorted(gone))

    def accept(self, response: DeltaDiscoveryResponse, update: Update) -> DeltaDiscoveryRequest:
        """The ACK of `response`, which asked for `update`."""
        kind = KINDS[response.type_url]
        subscription = self._by_kind[kind]
        for name in update.removed:
            subscription.versions.pop(name, None)
        for name, version in update.versions.items():
            if kind in WILDCARDS or name in subscription.names:
                subscription.versions[name] = version
        return self._request(kind, response_nonce=response.nonce)

    def refuse(self, response: DeltaDiscoveryResponse, reason: str) -> DeltaDiscoveryRequest:
        """The NACK of `response`: what was accepted before stays."""
        request = self._request(KINDS[response.type_url], response_nonce=response.nonce)
        request.error_detail.code = INVALID_ARGUMENT
        request.error_detail.message = reason
        return request

    def _open(self, kind: Kind, names: frozenset[str]) -> DeltaDiscoveryRequest:
        subscription = self._by_kind[kind]
        subscription.is_open = True
        subscription.names = names
        return self._request(
            kind, resource_names_subscribe=sorted(names), initial_resource_versions=subscription.versions
        )

    def _request(self, kind: Kind, **fields: Any) -> DeltaDiscoveryRequest:
        request = DeltaDiscoveryRequest(type_url=TYPE_URLS[kind], **fields)
        if not self._node_sent:
            request.node.CopyFrom(self.node)
            self._node_sent = True
        return request
