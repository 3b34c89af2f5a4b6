"""Istio's standard metrics (`istio.stats`): who called whom, how it ended, how long it took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy.config.core.v3.base_pb2 import Node

from mesh.proxy.log_values import grpc_status
from mesh.proxy.stats import Histogram, Labelled, Stats
from mesh.proxy.workload import NOBODY, UNKNOWN, Workload, of_endpoint, of_metadata

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Steps
    from mesh.proxy.stream import Stream

NAME = "istio.stats"
_MAX_KNOWN = 4096
LABELS = (
    "reporter", "source_workload", "source_canonical_service", "source_canonical_revision",
    "source_workload_namespace", "source_principal", "source_app", "source_version", "source_cluster",
    "destination_workload", "destination_workload_namespace", "destination_principal", "destination_app",
    "destination_version", "destination_service", "destination_canonical_service",
    "destination_canonical_revision", "destination_service_name", "destination_service_namespace",
    "destination_cluster", "request_protocol", "response_code", "grpc_response_status", "response_flags",
    "connection_security_policy",
)  # fmt: skip


class _Series:
    """The metrics of one set of labels."""

    __slots__ = ("duration", "received", "requests", "sent")

    def __init__(self, metrics: tuple[Labelled, Labelled, Labelled, Labelled], labels: tuple[str, ...]) -> None:
        requests, duration, received, sent = metrics
        self.requests: list[int] = requests.counter(labels)
        self.duration: Histogram = duration.histogram(labels)
        self.received: Histogram = received.histogram(labels)
        self.sent: Histogram = sent.histogram(labels)


def add(steps: Steps, node: Node, is_inbound: bool, stats: Stats) -> None:
    recorder = _Recorder(node, is_inbound, stats)
    steps.finish.append(recorder.record)


class _Recorder:
    """Finds the series of a stream by what distinguishes it, and adds the stream to it."""

    __slots__ = ("_destinations", "_is_inbound", "_metrics", "_own", "_series")

    def __init__(self, node: Node, is_inbound: bool, stats: Stats) -> None:
        self._own = of_metadata(node.metadata)
        self._is_inbound = is_inbound
        self._metrics = (
            stats.labelled("istio_requests_total", "counter", LABELS),
            stats.labelled("istio_request_duration_milliseconds", "histogram", LABELS),
            stats.labelled("istio_request_bytes", "histogram", LABELS),
            stats.labelled("istio_response_bytes", "histogram", LABELS),
        )
        self._series: dict[tuple[object, ...], _Series] = {}
        self._destinations: dict[str, Workload] = {}

    def record(self, stream: Stream) -> None:
        host, peer = stream.host, stream.connection.peer
        workload = host.endpoint.workload if host is not None else ""
        principal = peer.principal if peer is not None else None
        secured = host is not None and host.tls is not None
        grpc = ""
        if b"content-type" in stream.head.marked and (status := grpc_status(stream)) is not None:
            grpc = str(status)
        key = (stream.source, stream.cluster_name, workload, principal, secured, stream.status, stream.flags, grpc)
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= _MAX_KNOWN:
                self._series.clear()  # the metrics keep their values; this only finds them faster
            series = self._series[key] = _Series(
                self._metrics, self._labels(stream, workload, principal, secured, grpc)
            )
        series.requests[0] += 1
        series.duration.record(stream.elapsed * 1e3)
        series.received.record(stream.bytes_received)
        series.sent.record(stream.bytes_sent)

    def _labels(
        self, stream: Stream, workload: str, principal: str | None, secured: bool, grpc: str
    ) -> tuple[str, ...]:
        if self._is_inbound:
            source, destination = stream.source or NOBODY, self._own
            source_principal = principal or UNKNOWN
            destination_principal = self._own.principal if principal else UNKNOWN
            policy = "mutual_tls" if principal else "none"
        else:
            source, destination = self._own, self._destination(workload)
            peer = stream.upstream_peer
            source_principal = self._own.principal if secured else UNKNOWN
            destination_principal = (peer.principal if peer is not None else "") or UNKNOWN
            policy = UNKNOWN
        service, name, namespace = _service(stream)
        return (
            "destination" if self._is_inbound else "source",
            source.name, source.canonical_service, source.canonical_revision, source.namespace, source_principal,
            source.app, source.version, source.cluster,
            destination.name, destination.namespace, destination_principal, destination.app, destination.version,
            service, destination.canonical_service, destination.canonical_revision, name, namespace,
            destination.cluster, "grpc" if grpc else "http", str(stream.status), grpc, stream.flags or "-", policy,
        )  # fmt: skip

    def _destination(self, workload: str) -> Workload:
        if not workload:
            return NOBODY
        known = self._destinations.get(workload)
        if known is None:
            known = self._destinations[workload] = of_endpoint(workload)
        return known


def _service(stream: Stream) -> tuple[str, str, str]:
    """Host, name and namespace of the service that was called, from the cluster's metadata.

    Never from the request: a client that makes up hosts must not make up time series.
    """
    cluster = stream.worker.runtime.clusters.get(stream.cluster_name)
    if cluster is None:
        return UNKNOWN, UNKNOWN, UNKNOWN
    return cluster.config.services[0] if cluster.config.services else (cluster.name, cluster.name, UNKNOWN)
