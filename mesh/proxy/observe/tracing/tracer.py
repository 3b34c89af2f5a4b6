"""A connection manager's tracing, as steps of its streams: begin a span, tell the upstream of it, finish and report it.

What is decided for all requests stands in `Tracer`; what one has of it is `stream.span`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh.proxy.observe.downstream_counters import HttpStats
from mesh.proxy.observe.log_values import grpc_status, wall_start
from mesh.proxy.observe.tracing.decision import Reason, RequestIds, Sampling
from mesh.proxy.observe.tracing.span import Provider, Tags

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream

CustomTag = Callable[["Stream"], tuple[str, str] | None]
_OPERATION = b"x-envoy-decorator-operation"
# gRPC statuses that say that the service failed, not the caller.
_GRPC_ERRORS = frozenset((2, 4, 12, 13, 14, 15))


@dataclass(frozen=True, slots=True)
class RouteTracing:
    """What a route says: `Route.decorator` and `Route.tracing`."""

    operation: str = ""
    propagates: bool = True
    sampling: Sampling | None = None
    tags: tuple[CustomTag, ...] | None = None


_PLAIN = RouteTracing()
_NOT_TRACEABLE = Reason.NOT_TRACEABLE


class Tracer:
    """`HttpConnectionManager.Tracing` with its provider. `is_client` marks a listener for outbound traffic."""

    __slots__ = (
        "_ids", "_is_client", "_max_path", "_own_span_upstream", "_provider", "_sampling", "_span_is_client",
        "_stats", "_tags",
    )  # fmt: skip

    def __init__(
        self,
        provider: Provider,
        ids: RequestIds,
        sampling: Sampling,
        tags: tuple[CustomTag, ...],
        stats: HttpStats,
        *,
        is_client: bool,
        max_path: int,
        own_span_upstream: bool,
    ) -> None:
        self._provider = provider
        self._ids = ids
        self._sampling = sampling
        self._tags = tags
        self._stats = stats
        self._is_client = is_client
        self._max_path = max_path
        self._own_span_upstream = own_span_upstream
        # With a span of the upstream's request beside it, ours is a server's in both directions.
        self._span_is_client = is_client and not own_span_upstream

    # Steps

    def begin(self, stream: Stream) -> bool:
        """The first request step: decide, take up the context that came, name the span."""
        route = stream.route
        said = (route.tracing if route is not None else None) or _PLAIN
        reason = self._ids.decide(stream, said.sampling or self._sampling)
        is_traced = reason is not _NOT_TRACEABLE
        if is_traced:
            self._count(reason)
        else:
            self._stats.tracing__not_traceable += 1
        head = stream.head
        span = stream.span = self._provider.begin(head, is_client=self._span_is_client, is_traced=is_traced)
        operation = said.operation
        if self._is_client:
            if operation and said.propagates:
                head.set(_OPERATION, operation.encode())
        else:
            asked = head.take(_OPERATION)
            operation = asked.decode("latin-1") if asked else operation
        if span is not None:
            span.name = operation
            if span.is_sampled:
                span.is_forced = reason is Reason.SERVICE_FORCED
                span.name = operation or self._provider.default_name(head, is_client=self._is_client)
                span.started = wall_start(stream)
        return False

    def propagate(self, stream: Stream) -> bool:
        """The last request step: the context for the upstream."""
        span = stream.span
        if span is not None:
            if self._own_span_upstream:
                upstream = span.upstream = span.child()
                upstream.name = f"router {stream.cluster_name} egress"
                upstream.started = time.time()
                self._provider.inject(upstream, stream.head)
            else:
                self._provider.inject(span, stream.head)
        return False

    def answered(self, stream: Stream) -> None:
        """The response step: operation names travel back, too."""
        head, span, route = stream.response_head, stream.span, stream.route
        assert head is not None
        if self._is_client:
            operation = head.get(_OPERATION)
            if operation is not None:
                head.remove((_OPERATION,))
                if operation and span is not None:
                    span.name = operation.decode("latin-1")
            return
        said = route.tracing if route is not None else None
        if said is not None and said.operation and said.propagates and (span is None or span.name == said.operation):
            head.set(_OPERATION, said.operation.encode())

    def finish(self, stream: Stream) -> None:
        """The finish step: report what is sampled."""
        span = stream.span
        if span is None or not span.is_sampled:
            return
        span.ended = span.started + stream.elapsed
        is_error = stream.status >= 500 or stream.status == 0
        common = _common_tags(stream)
        status = grpc_status(stream)
        if status in _GRPC_ERRORS:
            is_error = True
        upstream = span.upstream
        report = self._provider.report
        if upstream is not None and stream.served_by is not None and stream.host is not None:
            upstream.ended = span.ended
            address = stream.host.address
            tags = [
                ("http.protocol", stream.served_by.protocol),
                ("upstream_address", address),
                ("peer.address", address),
                *common,
            ]
            if is_error:
                tags.append(("error", "true"))
            report(stream.worker, upstream, tags, is_error=is_error, is_local=False)
        tags = self._request_tags(stream) + common
        if status is not None:
            tags.append(("grpc.status_code", str(status)))
        if is_error:
            tags.append(("error", "true"))
        custom = stream.route.tracing if stream.route is not None else None
        for make in self._tags if custom is None or custom.tags is None else custom.tags:
            tag = make(stream)
            if tag is not None:
                tags.append(tag)
        report(stream.worker, span, tags, is_error=is_error, is_local=True)

    # Inner workings

    def _count(self, reason: Reason) -> None:
        stats = self._stats
        if reason is Reason.SAMPLING:
            stats.tracing__random_sampling += 1
        elif reason is Reason.CLIENT_FORCED:
            stats.tracing__client_enabled += 1
        else:
            stats.tracing__service_forced += 1

    def _request_tags(self, stream: Stream) -> Tags:
        head = stream.head
        marked = head.marked
        path = (marked.get(b"x-envoy-original-path") or head.target)[: self._max_path]
        url = b"%b://%b%b" % (marked.get(b"x-forwarded-proto", b"http"), head.authority, path)
        tags = [
            ("guid:x-request-id", _text(marked.get(b"x-request-id"))),
            ("http.url", _text(url)),
            ("http.method", _text(head.method)),
            ("downstream_cluster", _text(marked.get(b"x-envoy-downstream-service-cluster"))),
            ("user_agent", _text(marked.get(b"user-agent"))),
            ("http.protocol", stream.connection.protocol),
            ("peer.address", stream.connection.remote_address.rpartition(":")[0]),
            ("request_size", str(stream.bytes_received)),
            ("response_size", str(stream.bytes_sent)),
        ]
        client = marked.get(b"x-client-trace-id")
        if client is not None:
            tags.append(("guid:x-client-trace-id", _text(client)))
        kind = marked.get(b"content-type")
        if kind is not None and kind.startswith(b"application/grpc"):
            tags += [("grpc.path", _text(head.target)), ("grpc.authority", _text(head.authority))]
            tags.append(("grpc.content_type", _text(kind)))
            timeout = head.get(b"grpc-timeout")
            if timeout is not None:
                tags.append(("grpc.timeout", _text(timeout)))
        return tags


def _common_tags(stream: Stream) -> Tags:
    tags = [("component", "proxy")]
    if stream.cluster_name:
        tags += [("upstream_cluster", stream.cluster_name), ("upstream_cluster.name", stream.cluster_name)]
    tags += [("http.status_code", str(stream.status)), ("response_flags", stream.flags or "-")]
    return tags


def _text(value: bytes | None) -> str:
    return "-" if value is None else value.decode("utf-8", "replace")
