"""The state-of-the-world protocol of one ADS stream, as a value machine: responses in, requests out, no I/O.

Per type the client remembers the version it accepted last and the nonce of the last response. A request without a
nonce subscribes; one with a nonce answers: `version_info` equal to the response's is an ACK, an `error_detail` with
the version before is a NACK. (Envoy: "xDS REST and gRPC protocol".)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from google.rpc.code_pb2 import INVALID_ARGUMENT

from mesh.proxy.operations.references import Kind
from mesh.proxy.operations.xds_client.kinds import KINDS, MESSAGES, TYPE_URLS, WILDCARDS
from mesh.proxy.operations.xds_client.update import Update, unpack


@dataclass(slots=True)
class _Subscription:
    version: str = ""
    nonce: str = ""
    names: frozenset[str] = frozenset()
    is_open: bool = False


@dataclass(slots=True)
class Subscriptions:
    """What has been asked for on the stream, and what was accepted on any stream before it."""

    node: Node
    _by_kind: dict[Kind, _Subscription] = field(default_factory=lambda: {kind: _Subscription() for kind in MESSAGES})
    _node_sent: bool = False

    def begin(self) -> None:
        """A new stream: nothing is subscribed on it; accepted versions are kept."""
        self._node_sent = False
        for subscription in self._by_kind.values():
            subscription.nonce = ""
            subscription.is_open = False

    def read(self, response: DiscoveryResponse) -> Update:
        """What `response` asks for. Raises Refused."""
        kind = KINDS[response.type_url]
        messages = unpack(kind, response.resources)
        return Update(messages, response.version_info, is_whole=kind in WILDCARDS)

    def subscribe(self, kind: Kind, names: Collection[str] = (), held: Collection[str] = ()) -> DiscoveryRequest | None:
        """The request that makes the stream deliver `names` of `kind` (all clusters, all listeners), if one is due.

        What is `held` already makes no difference here: every request names all. No name asked for on a fresh
        subscription would mean a wildcard, so nothing is sent until there is one.
        """
        subscription = self._by_kind[kind]
        wanted = frozenset(names)
        if subscription.is_open and wanted == subscription.names:
            return None
        if not subscription.is_open and not wanted and kind not in WILDCARDS:
            return None
        subscription.is_open = True
        subscription.names = wanted
        return self._request(kind)

    def accept(self, response: DiscoveryResponse, update: Update) -> DiscoveryRequest:
        """The ACK of `response`, which asked for `update`."""
        subscription = self._by_kind[KINDS[response.type_url]]
        subscription.version = response.version_info
        subscription.nonce = response.nonce
        return self._request(KINDS[response.type_url])

    def refuse(self, response: DiscoveryResponse, reason: str) -> DiscoveryRequest:
        """The NACK of `response`: the version stays at what was accepted last."""
        self._by_kind[KINDS[response.type_url]].nonce = response.nonce
        request = self._request(KINDS[response.type_url])
        request.error_detail.code = INVALID_ARGUMENT
        request.error_detail.message = reason
        return request

    def version(self, kind: Kind) -> str:
        """The version of `kind` accepted last, empty before the first."""
        return self._by_kind[kind].version

    def _request(self, kind: Kind) -> DiscoveryRequest:
        subscription = self._by_kind[kind]
        request = DiscoveryRequest(
            version_info=subscription.version,
            response_nonce=subscription.nonce,
            type_url=TYPE_URLS[kind],
            resource_names=sorted(subscription.names),
        )
        if not self._node_sent:
            request.node.CopyFrom(self.node)
            self._node_sent = True
        return request
