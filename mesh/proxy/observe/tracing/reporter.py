"""Gathers written spans and sends them in one request to a collector, a few times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from mesh.proxy import logs
from mesh.proxy.http.rescue import Failure, NoCluster
from mesh.proxy.http1.head import ResponseHead
from mesh.proxy.upstream.async_client import AsyncRequest, own_head

if TYPE_CHECKING:
    from mesh.proxy.observe.counters import TracingStats
    from mesh.proxy.runtime import Worker

_LOG = logs.logger("tracing")
FLUSH_EVERY_S = 0.1
FLUSH_ABOVE = 256
_IN_FLIGHT = 8
_OK = 300


class Collector:
    """Where reports go: a cluster, and the request that carries them. `timeout` in seconds."""

    __slots__ = ("authority", "cluster", "headers", "path", "timeout")

    def __init__(
        self, cluster: str, authority: str, path: str, headers: tuple[tuple[bytes, bytes], ...], timeout: float
    ) -> None:
        self.cluster = cluster
        self.authority = authority.encode()
        self.path = path.encode()
        self.headers = headers
        self.timeout = timeout


class Reporter:
    """Spans wait at most FLUSH_EVERY_S or until FLUSH_ABOVE are there. With _IN_FLIGHT reports that no collector has
    answered, further ones are dropped, and counted.
    """

    __slots__ = ("_collector", "_in_flight", "_join", "_spans", "_stats", "_timer")

    def __init__(self, collector: Collector, join: Callable[[list[bytes]], bytes], stats: TracingStats) -> None:
        self._collector = collector
        self._join = join
        self._stats = stats
        self._spans: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._in_flight = 0

    def add(self, worker: Worker, span: bytes) -> None:
        self._spans.append(span)
        if len(self._spans) >= FLUSH_ABOVE:
            self._flush(worker)
        elif self._timer is None:
            self._timer = worker.loop.call_later(FLUSH_EVERY_S, self._timed, worker)

    def _timed(self, worker: Worker) -> None:
        self._stats.timer_flushed += 1
        self._flush(worker)

    def _flush(self, worker: Worker) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        spans, self._spans = self._spans, []
        if self._in_flight >= _IN_FLIGHT:
            self._stats.dropped(len(spans))
            return
        self._stats.spans_sent += len(spans)
        self._in_flight += 1
        to = self._collector
        head = own_head(b"POST", to.path, to.authority, to.headers, to.timeout)
        body = self._join(spans)
        head.lines.append(b"content-length: %d" % len(body))
        head.marked[b"content-length"] = b"%d" % len(body)
        request = AsyncRequest(
            worker, to.cluster, head, body=body, timeout=to.timeout,
            answered=self._answered, failed=lambda failure: self._failed(failure, request.has_head),
        )  # fmt: skip
        request.send()

    def _answered(self, head: ResponseHead, body: bytes) -> None:
        self._in_flight -= 1
        if head.status < _OK:
            self._stats.reports_sent += 1
        else:
            self._stats.reports_dropped += 1
            _LOG.debug("the collector at %s answered %d", self._collector.cluster, head.status)

    def _failed(self, failure: Failure, has_head: bool) -> None:
        """As in Envoy a report has failed where its answer broke off; where none came it was dropped."""
        self._in_flight -= 1
        if type(failure) is NoCluster:
            self._stats.reports_skipped_no_cluster += 1
        elif has_head:
            self._stats.reports_failed += 1
        else:
            self._stats.reports_dropped += 1
        _LOG.debug("no report to %s: %s", self._collector.cluster, type(failure).__name__)
