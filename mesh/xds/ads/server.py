"""The discovery server: takes in changes, keeps the snapshot, serves ADS (Pilot's DiscoveryServer)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

import grpc
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest

from mesh.api.meta import Resource
from mesh.registry.kubernetes import KubernetesRegistry
from mesh.snapshot.builder import SnapshotBuilder
from mesh.snapshot.options import MeshOptions
from mesh.snapshot.snapshot import MeshSnapshot
from mesh.xds.ads.catalog import Catalog, UnknownWorkloadError
from mesh.xds.ads.connection import Connection
from mesh.xds.ads.counters import Counters, Metric
from mesh.xds.ads.debounce import Debounce
from mesh.xds.ads.incremental import Incremental
from mesh.xds.ads.node import (
    IdentityError,
    NodeError,
    NodeIdentity,
    certified_identities,
    check_identity,
    read_node,
)
from mesh.xds.ads.state_of_the_world import StateOfTheWorld
from mesh.xds.ads.status import ProxyStatus, SyncResult, SyncState, rejections
from mesh.xds.ads.stream import StreamOf
from mesh.xds.ads.touched import Touched

log = logging.getLogger(__name__)

_SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_METHODS: Final[Mapping[str, tuple[StreamOf, Any]]] = {
    "StreamAggregatedResources": (StateOfTheWorld, DiscoveryRequest),
    "DeltaAggregatedResources": (Incremental, DeltaDiscoveryRequest),
}
_SERVER_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.so_reuseport", 0),
    # Proxies ask for signs of life every 30 s, and gRPC hangs up on whoever does so thrice within its five minutes.
    ("grpc.http2.max_ping_strikes", 0),
)
_REFUSALS: Final = {
    NodeError: grpc.StatusCode.INVALID_ARGUMENT,
    IdentityError: grpc.StatusCode.PERMISSION_DENIED,
    UnknownWorkloadError: grpc.StatusCode.NOT_FOUND,
}


class DiscoveryServer:
    """Lives on one event loop: all methods are called there, `load` also before it runs."""

    def __init__(self, options: MeshOptions) -> None:
        self._options = options
        self._builder = SnapshotBuilder(options)
        self._registry = KubernetesRegistry()
        self._registry.subscribe(self._builder.change_registry)
        self._catalog = Catalog(self._builder.build(0))
        self._counters = Counters()
        self._debounce = Debounce(self._publish)
        self._version = 0
        self._changed_at: float | None = None
        self._connections: set[Connection] = set()
        self._progress = asyncio.Event()
        self._server: grpc.aio.Server | None = None
        self._is_stopping = False

    @property
    def snapshot(self) -> MeshSnapshot:
        """The latest published picture."""
        return self._catalog.snapshot

    async def next_snapshot(self, former: MeshSnapshot) -> MeshSnapshot:
        """The latest picture, as soon as it is another than `former`."""
        while self.snapshot is former:
            await self._progress.wait()
        return self.snapshot

    def load(self, resources: Iterable[Resource], resource_version: int) -> None:
        """Take in the store's whole effective view. Before `start`."""
        self._take(tuple(resources), (), resource_version)
        self._build()

    def change(self, upserts: Iterable[Resource], deletions: Iterable[Resource], resource_version: int) -> None:
        """Take in what changed from one version of the store to another; it is pushed a moment later.

        Every version is to be told, also one that changed nothing here, so that `wait_synced` can be answered.
        """
        self._take(tuple(upserts), tuple(deletions), resource_version)
        if self._changed_at is None:
            self._changed_at = asyncio.get_running_loop().time()
        self._debounce.trigger()

    async def start(self, host: str, port: int, credentials: grpc.ServerCredentials) -> int:
        """Listen; returns the port, of which 0 picks a free one. `credentials` must require client certificates.

        Raises OSError when the address cannot be had.
        """
        server = grpc.aio.server(options=_SERVER_OPTIONS)
        handlers = {
            name: grpc.stream_stream_rpc_method_handler(
                partial(self._aggregated_resources, protocol), request_deserializer=request.FromString
            )
            for name, (protocol, request) in _METHODS.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        try:
            bound: int = server.add_secure_port(f"{host}:{port}", credentials)
        except RuntimeError as error:
            raise OSError(f"cannot serve ADS on {host}:{port}: {error}") from error
        await server.start()
        self._server = server
        return bound

    async def stop(self, grace_s: float = 1.0) -> None:
        """Stop listening, and end all streams."""
        self._debounce.cancel()
        self._is_stopping = True
        for connection in self._connections:
            connection.end()  # gRPC's own way is to cancel the handlers, which it sometimes reports as their failure
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None

    def proxies(self) -> tuple[ProxyStatus, ...]:
        """Every connected proxy, by name."""
        return tuple(own.status() for own in sorted(self._connections, key=lambda own: own.id))

    def metrics(self) -> tuple[Metric, ...]:
        compiled = self._catalog.compiled
        return tuple(self._counters.metrics(len(self._connections), compiled.made, compiled.reused))

    async def wait_synced(self, resource_version: int, timeout_s: float) -> SyncResult:
        """Until every connected proxy has taken what follows from that version of the store.

        Ends at once when one refuses it: it will not take it later either, until the configuration changes.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while (result := self._sync_result(resource_version)).state is SyncState.TIMEOUT:
                    await self._progress.wait()
        except TimeoutError:
            return self._sync_result(resource_version)
        return result

    def _take(self, upserts: tuple[Resource, ...], deletions: tuple[Resource, ...], resource_version: int) -> None:
        self._registry.change(upserts, deletions)
        self._builder.change_config(upserts, deletions)
        self._version = resource_version

    def _build(self) -> Touched:
        started = time.perf_counter()
        touched = self._catalog.show(self._builder.build(self._version))
        self._counters.snapshots += 1
        self._counters.snapshot_seconds += time.perf_counter() - started
        return touched

    def _publish(self) -> None:
        changed_at, self._changed_at = self._changed_at, None
        touched = self._build()
        for connection in self._connections:
            connection.changed(touched, changed_at or asyncio.get_running_loop().time())
        self._progressed()

    def _progressed(self) -> None:
        """Wake whoever waits for a sync; later waiters get an event of their own."""
        former, self._progress = self._progress, asyncio.Event()
        former.set()

    def _sync_result(self, version: int) -> SyncResult:
        """TIMEOUT stands for "not yet"."""
        if self.snapshot.resource_version < version:
            return SyncResult(SyncState.TIMEOUT, late=("control plane",))
        late = tuple(sorted(own.id for own in self._connections if own.stream.synced_version < version))
        rejected = tuple(
            rejection for own in self._connections for rejection in rejections(own.id, own.stream, version)
        )
        if rejected:
            return SyncResult(SyncState.REJECTED, late, rejected)
        return SyncResult(SyncState.TIMEOUT if late else SyncState.SYNCED, late)

    async def _aggregated_resources(self, protocol: StreamOf, _: object, context: grpc.aio.ServicerContext) -> None:
        first = await context.read()
        if first is grpc.aio.EOF:
            return
        try:
            connection = self._connect(protocol, first, context)
        except (NodeError, IdentityError, UnknownWorkloadError) as error:
            self._counters.refused_streams += 1
            log.warning("ADS stream from %s refused: %s", context.peer(), error)
            await context.abort(_REFUSALS[type(error)], str(error))
            return
        try:
            await connection.serve(first, context)
            if self._is_stopping:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the control plane is stopping")
        except UnknownWorkloadError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        finally:
            self._disconnect(connection)

    def _connect(self, protocol: StreamOf, first: Any, context: grpc.aio.ServicerContext) -> Connection:
        node = read_node(first.node)
        if self._changed_at is not None and node.proxy.key not in self.snapshot.workloads:
            # A pod's proxy may be quicker than the debounce that its Pod object is waiting in.
            self._debounce.cancel()
            self._publish()
        self._check(node, certified_identities(context.auth_context()))
        connection = Connection(node, protocol, self._catalog, self._counters, self._progressed)
        self._connections.add(connection)
        log.info("%s connected", connection.id)
        return connection

    def _check(self, node: NodeIdentity, certified: frozenset[str]) -> None:
        workload = self.snapshot.workloads.get(node.proxy.key)
        if workload is None:
            raise UnknownWorkloadError(f"no pod {node.proxy.key.name} in namespace {node.proxy.key.namespace}")
        check_identity(node, workload, certified, self._options.trust_domain)

    def _disconnect(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if all(own.node.proxy != connection.node.proxy for own in self._connections):
            self._catalog.forget(connection.node.proxy)
        log.info("%s disconnected", connection.id)
        self._progressed()
