"""As much of a proxy as the control plane sees: an ADS stream over mutual TLS that subscribes as Envoy does."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from control_process import PATIENCE_S, XDS_PORT, ControlProcess
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.service.discovery.v3.ads_pb2_grpc import AggregatedDiscoveryServiceStub
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from google.rpc.status_pb2 import Status

from mesh.client import Credentials

_BASE = "type.googleapis.com/envoy.config."
CDS, EDS = f"{_BASE}cluster.v3.Cluster", f"{_BASE}endpoint.v3.ClusterLoadAssignment"
LDS, RDS = f"{_BASE}listener.v3.Listener", f"{_BASE}route.v3.RouteConfiguration"


class AdsProxy:
    """Takes all that it is sent, unless it `refuses` (CDS is NACKed with that text) or is not `answering`."""

    def __init__(self, control: ControlProcess, credentials: Credentials, pod: str, ip: str) -> None:
        channel_credentials = grpc.ssl_channel_credentials(
            credentials.root.encode(), credentials.key.encode(), credentials.chain.encode()
        )
        self.refuses = ""
        self.answering = threading.Event()
        self.answering.set()
        self.failure: grpc.RpcError | None = None
        self._sent: list[frozenset[str]] = []
        self._taken = dict.fromkeys((CDS, EDS, LDS, RDS), "")
        self._nonces = dict(self._taken)
        self._names: dict[str, list[str]] = {EDS: [], RDS: []}
        self._changed = threading.Condition()
        self._requests: queue.Queue[DiscoveryRequest | None] = queue.Queue()
        self._channel = grpc.secure_channel(f"{control.address}:{XDS_PORT}", channel_credentials)
        self._responses = AggregatedDiscoveryServiceStub(self._channel).StreamAggregatedResources(
            iter(self._requests.get, None)
        )
        first = DiscoveryRequest(type_url=CDS)
        first.node.id = f"sidecar~{ip}~{pod}.default~default.svc.cluster.local"
        self._requests.put(first)
        self._requests.put(DiscoveryRequest(type_url=LDS))
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> AdsProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.answering.set()
        self._requests.put(None)
        self._responses.cancel()
        self._reader.join(PATIENCE_S)
        self._channel.close()

    def wait_for(self, holds: Callable[[frozenset[str]], bool]) -> frozenset[str]:
        """The names of the clusters, the first time that `holds` of them since what was last waited for."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(holds, self._sent)), PATIENCE_S), (self._sent, self.failure)
            while not holds(self._sent[0]):
                del self._sent[0]
            return self._sent[0]

    def wait_ended(self) -> grpc.StatusCode:
        """Why the stream has ended."""
        self._reader.join(PATIENCE_S)
        assert self.failure is not None
        return self.failure.code()

    def _read(self) -> None:
        try:
            for response in self._responses:
                self._see(response)
                self.answering.wait(PATIENCE_S)
                self._answer(response)
        except grpc.RpcError as error:
            self.failure = error

    def _see(self, response: DiscoveryResponse) -> None:
        if response.type_url == CDS:
            with self._changed:
                self._sent.append(frozenset(cluster.name for cluster in unpacked(response, Cluster)))
                self._changed.notify_all()

    def _answer(self, response: DiscoveryResponse) -> None:
        kind = response.type_url
        self._nonces[kind] = response.nonce
        if kind == CDS and self.refuses:
            self._ask(kind, self.refuses)
            return
        self._taken[kind] = response.version_info
        self._ask(kind)
        if kind == CDS:
            self._names[EDS] = [cluster.name for cluster in unpacked(response, Cluster) if cluster.type == Cluster.EDS]
            self._ask(EDS)
        elif kind == LDS:
            self._names[RDS] = sorted({name for listener in unpacked(response, Listener) for name in routes(listener)})
            self._ask(RDS)

    def _ask(self, kind: str, refusal: str = "") -> None:
        request = DiscoveryRequest(
            type_url=kind,
            version_info=self._taken[kind],
            response_nonce=self._nonces[kind],
            resource_names=self._names.get(kind, []),
        )
        if refusal:
            request.error_detail.CopyFrom(Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message=refusal))
        self._requests.put(request)


def unpacked(response: DiscoveryResponse, kind: type[Any]) -> Iterator[Any]:
    for resource in response.resources:
        message = kind()
        assert resource.Unpack(message)
        yield message


def routes(listener: Listener) -> Iterator[str]:
    """The names of the route configurations that a listener takes from RDS."""
    chains = [*listener.filter_chains, listener.default_filter_chain]
    for filter_ in (filter_ for chain in chains for filter_ in chain.filters):
        manager = HttpConnectionManager()
        if filter_.typed_config.Unpack(manager) and manager.HasField("rds"):
            yield manager.rds.route_config_name
