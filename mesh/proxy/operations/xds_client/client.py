"""Keeps one ADS stream to the control plane: connects, converses, and comes back after it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

import grpc
import grpc.aio
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.core.v3.config_source_pb2 import ApiConfigSource
from envoy.service.discovery.v3.ads_pb2_grpc import AggregatedDiscoveryServiceStub
from google.protobuf.duration_pb2 import Duration

from mesh.proxy import logs
from mesh.proxy.observe.stats import Stats
from mesh.proxy.operations import operation_stats
from mesh.proxy.operations.background import running
from mesh.proxy.operations.configuration import Configuration
from mesh.proxy.operations.operation_stats import ControlPlaneStats, SubscriptionStats
from mesh.proxy.operations.references import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Kind, Reference
from mesh.proxy.operations.xds_client.backoff import Backoff
from mesh.proxy.operations.xds_client.channel import Dialer
from mesh.proxy.operations.xds_client.incremental import IncrementalSubscriptions
from mesh.proxy.operations.xds_client.kinds import KINDS, WILDCARDS
from mesh.proxy.operations.xds_client.subscriptions import Subscriptions
from mesh.proxy.operations.xds_client.update import Update
from mesh.proxy.resources import Refused
from mesh.proxy.tls.secrets import SecretError

_LOG = logs.logger("config")
_BY_NAME = (ENDPOINT, ROUTE, SECRET)


class AdsClient:
    """Feeds `configuration` from the control plane. `refresh_secrets` is awaited before each connection.

    `answered[kind]` is set once clusters or listeners have come for the first time, accepted or refused.
    """

    def __init__(
        self,
        *,
        ads: ApiConfigSource,
        node: Node,
        dialer: Dialer,
        configuration: Configuration,
        stats: Stats,
        refresh_secrets: Callable[[], Awaitable[None]],
    ) -> None:
        loop = asyncio.get_running_loop()
        service = ads.grpc_services[0]
        retry = service.envoy_grpc.retry_policy.retry_back_off
        self._metadata = tuple((header.key, header.value) for header in service.initial_metadata)
        # Envoy's defaults: 500 ms, at most 30 s.
        self._backoff = Backoff(_seconds(retry.base_interval) or 0.5, _seconds(retry.max_interval) or 30.0)
        self._dialer = dialer
        self._configuration = configuration
        self._stats = stats
        self._control_plane = stats.group(ControlPlaneStats, "control_plane")
        self._refresh_secrets = refresh_secrets
        self._is_incremental = ads.api_type == ApiConfigSource.DELTA_GRPC
        self._subscriptions = IncrementalSubscriptions(node) if self._is_incremental else Subscriptions(node)
        self._kinds: set[Kind] = set()
        self._is_open = False
        self.answered = {kind: asyncio.Event() for kind in WILDCARDS}
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        self._held: list[Any] = []
        # Soon, not at once, so that the ACK of what changed the configuration goes out first.
        configuration.watch(lambda: _soon(loop, self._subscribe))
        configuration.watch(self._release)

    def begin(self, kind: Kind) -> None:
        """Ask for all resources of `kind` (clusters or listeners) from now on, on this stream and those to come."""
        self._kinds.add(kind)
        self._subscribe()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            try:
                await self._stream()
                _LOG.warning("the control plane ended the stream")
            except grpc.aio.AioRpcError as error:
                _LOG.warning("the stream to the control plane ended: %s, %s", error.code().name, error.details())
            except SecretError as error:
                _LOG.warning("cannot connect to the control plane: %s", error)
            self._ended()
            pause = self._backoff.next_s()
            _LOG.info("connecting to the control plane again in %.1f s", pause)
            await asyncio.sleep(pause)

    async def _stream(self) -> None:
        await self._refresh_secrets()
        async with self._dialer.channel(self._configuration.accepted.secrets) as channel:
            stub = AggregatedDiscoveryServiceStub(channel)
            method = stub.DeltaAggregatedResources if self._is_incremental else stub.StreamAggregatedResources
            call = method(metadata=self._metadata)
            self._requests = asyncio.Queue()
            self._held.clear()
            self._subscriptions.begin()
            self._is_open = True
            self._subscribe()
            async with running(self._write(call)):
                async for response in call:
                    self._backoff.reset()
                    self._control_plane.connected_state = 1
                    await self._received(response)

    async def _write(self, call: Any) -> None:
        """Send what is queued. When the stream breaks, its reader says why; here it is only the end."""
        while True:
            request = await self._requests.get()
            try:
                await call.write(request)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return

    async def _received(self, response: Any) -> None:
        kind = KINDS.get(response.type_url)
        if kind is None:
            _LOG.warning("the control plane sent a type nobody asked for: %s", response.type_url)
            return
        try:
            update = self._subscriptions.read(response)
        except Refused as error:
            self._refuse(kind, response, error, self._counters(kind))
        else:
            await self._judge(kind, response, update)
        if kind in WILDCARDS:
            self.answered[kind].set()

    async def _judge(self, kind: Kind, response: Any, update: Update) -> None:
        counters = self._counters(kind, update.messages)
        try:
            await self._apply(kind, update)
        except Refused as error:
            self._refuse(kind, response, error, counters)
            return
        _LOG.debug("accepted %d %s of version %s", len(update.messages), kind, update.version)
        self._answer(kind, self._subscriptions.accept(response, update))
        for counter in counters:
            counter.succeeded(update.version)

    async def _apply(self, kind: Kind, update: Update) -> None:
        """Raises Refused. As Envoy does, what is referred to is kept though its source says that it is gone."""
        if update.is_whole:
            await self._configuration.replace(kind, update.messages, update.version)
        elif kind in WILDCARDS:
            await self._configuration.change(kind, update.messages, update.removed, update.version, update.versions)
        else:
            wanted = self._configuration.wanted
            mine = {name: message for name, message in update.messages.items() if (kind, name) in wanted}
            await self._configuration.merge(kind, mine, update.version, update.versions)

    def _refuse(self, kind: Kind, response: Any, error: Refused, counters: Iterable[SubscriptionStats]) -> None:
        _LOG.warning("refused %s: %s", kind, error)
        self._answer(kind, self._subscriptions.refuse(response, str(error)))
        for counter in counters:
            counter.update_rejected += 1

    def _answer(self, kind: Kind, request: Any) -> None:
        """As Envoy does, clusters are answered for when they are warm: that tells the control plane when routes to them
        may follow. What else it sends meanwhile is taken and answered.
        """
        if kind == CLUSTER and (self._held or self._configuration.warming):
            self._held.append(request)
        else:
            self._requests.put_nowait(request)

    def _release(self) -> None:
        if self._configuration.warming:
            return
        for request in self._held:
            self._requests.put_nowait(request)
        self._held.clear()

    def _subscribe(self) -> None:
        """Ask for what is wanted and not asked for yet; clusters before endpoints, listeners before routes."""
        if not self._is_open:
            return
        wanted = self._wanted()
        for kind in (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET):
            if kind in WILDCARDS and kind not in self._kinds:
                continue
            held = getattr(self._configuration.accepted, kind)
            request = self._subscriptions.subscribe(kind, wanted.get(kind, {}), held)
            if request is not None:
                for counter in self._counters(kind):
                    counter.update_attempt += 1
                self._requests.put_nowait(request)

    def _wanted(self) -> dict[Kind, dict[str, Reference]]:
        """What accepted resources refer to by `ads`, by kind and name."""
        wanted: dict[Kind, dict[str, Reference]] = {}
        for reference in self._configuration.wanted.values():
            if reference.source.HasField("ads"):
                wanted.setdefault(reference.kind, {})[reference.name] = reference
        return wanted

    def _counters(self, kind: Kind, messages: Collection[str] | None = None) -> list[SubscriptionStats]:
        """The counters of `kind`, or of those of it that are in `messages`."""
        if kind in WILDCARDS:
            return [operation_stats.of_manager(self._stats, kind)]
        wanted = self._wanted().get(kind, {})
        chosen = wanted if messages is None else wanted.keys() & set(messages)
        return [operation_stats.of_reference(self._stats, wanted[name]) for name in chosen]

    def _ended(self) -> None:
        self._is_open = False
        self._control_plane.connected_state = 0
        for kind in (*self._kinds, *_BY_NAME):
            for counter in self._counters(kind):
                counter.update_failure += 1


def _soon(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    loop.call_soon(work)


def _seconds(duration: Duration) -> float:
    return float(duration.ToTimedelta().total_seconds())
