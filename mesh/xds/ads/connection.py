"""A connected proxy: its stream's state driven over the network."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import grpc

from mesh.xds.ads.catalog import Catalog
from mesh.xds.ads.counters import Counters
from mesh.xds.ads.node import NodeIdentity
from mesh.xds.ads.status import ProxyStatus, type_statuses
from mesh.xds.ads.stream import StreamOf
from mesh.xds.ads.touched import NOTHING_TOUCHED, Touched

log = logging.getLogger(__name__)


class Connection:
    """Reads requests and writes responses, each at its own pace. `progressed` is called whenever anything moved."""

    def __init__(
        self,
        node: NodeIdentity,
        protocol: StreamOf,
        catalog: Catalog,
        counters: Counters,
        progressed: Callable[[], None],
    ) -> None:
        self.node = node
        self.stream = protocol(catalog.config(node.proxy))
        self._catalog = catalog
        self._counters = counters
        self._progressed = progressed
        self._connected_since = datetime.now(UTC)
        self._wake = asyncio.Event()
        self._touched = NOTHING_TOUCHED
        self._changed_at: float | None = None
        self._reader: asyncio.Future[None] | None = None

    @property
    def id(self) -> str:
        """`pod.namespace`, as istioctl shows it."""
        return f"{self.node.proxy.key.name}.{self.node.proxy.key.namespace}"

    def status(self) -> ProxyStatus:
        return ProxyStatus(
            self.id,
            self.node.id,
            self.node.address,
            self._connected_since,
            type_statuses(self.stream),
            self.stream.synced_version,
        )

    def changed(self, touched: Touched, at: float) -> None:
        """There is a newer snapshot; `at` is when it began to change, on the loop's clock."""
        self._touched |= touched
        if self._changed_at is None:
            self._changed_at = at
        self._wake.set()

    async def serve(self, first: Any, context: grpc.aio.ServicerContext) -> None:
        """Until the proxy hangs up, or `end`. Raises UnknownWorkloadError when its pod goes."""
        self._take(first)
        reader = self._reader = asyncio.ensure_future(self._read(context))
        writer = asyncio.ensure_future(self._write(context.write))
        try:
            done, _ = await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled():
                    task.result()
        finally:
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    def end(self) -> None:
        """Let `serve` return."""
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self, context: grpc.aio.ServicerContext) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            self._take(request)

    def _take(self, request: Any) -> None:
        refused = self.stream.request(request, datetime.now(UTC))
        if refused is not None:
            self._counters.refusals[refused] += 1
            log.warning("%s refuses %s: %s", self.id, refused.value, request.error_detail.message)
        self._wake.set()
        self._progressed()

    async def _write(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Waits while the proxy does not read; what it is sent next is worked out after."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._offer()
            while (response := self.stream.next_response()) is not None:
                type_, encoded = response
                self._counters.pushes[type_] += 1
                self._counters.pushed_bytes[type_] += len(encoded)
                await write(encoded)
                self._offer()
            self._note_convergence()
            self._progressed()

    def _offer(self) -> None:
        if self.stream.offered_version != self._catalog.snapshot.resource_version:
            touched, self._touched = self._touched, NOTHING_TOUCHED
            self.stream.offer(self._catalog.config(self.node.proxy), touched)

    def _note_convergence(self) -> None:
        if self._changed_at is not None and self.stream.synced_version == self.stream.offered_version:
            self._counters.convergences += 1
            self._counters.convergence_seconds += asyncio.get_running_loop().time() - self._changed_at
            self._changed_at = None
