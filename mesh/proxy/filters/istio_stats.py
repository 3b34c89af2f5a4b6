"""Istio's standard metrics (`istio.stats`): who called whom, how it ended, how long it took; of requests and of TCP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from envoy.config.core.v3.base_pb2 import Node
from google.protobuf.json_format import MessageToDict

from mesh.proxy.fields import Place
from mesh.proxy.filters.istio_metrics import Metric, Value, compile_metrics
from mesh.proxy.observe.log_values import grpc_status
from mesh.proxy.observe.stats import Histogram, Stats
from mesh.proxy.observe.workload import NOBODY, UNKNOWN, Workload, of_endpoint, of_metadata

if TYPE_CHECKING:
    from mesh.proxy.downstream.tcp import TcpDownstream
    from mesh.proxy.filters.steps import Steps, Surroundings
    from mesh.proxy.http.stream import Stream

NAME = "istio.stats"
_MAX_KNOWN = 4096
_GRPC = b"application/grpc"


def add(steps: Steps, packed: Any, around: Surroundings, place: Place) -> None:
    """Raises Refused."""
    metrics = compile_metrics(_value_of(packed), around.stats, place.at("value"), tcp=False)
    steps.finish.append(_Recorder(_Sides(around.node, around.is_inbound), metrics).record)


def tcp_steps(
    packed: Any, node: Node, is_inbound: bool, stats: Stats, place: Place
) -> tuple[Callable[[TcpDownstream], None], Callable[[TcpDownstream], None]]:
    """What to do when a TCP connection has found its upstream, and when it ends. Raises Refused."""
    recorder = _TcpRecorder(
        _Sides(node, is_inbound), compile_metrics(_value_of(packed), stats, place.at("value"), tcp=True)
    )
    return recorder.opened, recorder.closed


def _value_of(packed: Any) -> dict[str, Any]:
    """The configuration in a TypedStruct."""
    if packed.TypeName().startswith("udpa."):
        from udpa.type.v1.typed_struct_pb2 import TypedStruct  # noqa: PLC0415 - one of two, and both are small
    else:
        from xds.type.v3.typed_struct_pb2 import TypedStruct  # noqa: PLC0415
    message = TypedStruct()
    packed.Unpack(message)
    value: dict[str, Any] = MessageToDict(message.value)
    return value


class _Series:
    """The metrics of requests with one set of labels."""

    __slots__ = ("duration", "received", "requests", "sent")

    def __init__(
        self, metrics: tuple[Metric, ...], labels: tuple[str, ...], extra: tuple[tuple[str, ...], ...]
    ) -> None:
        requests, duration, received, sent = metrics
        self.requests: list[int] = requests.cell(labels, extra[0])
        self.duration: Histogram = duration.histogram(labels, extra[1])
        self.received: Histogram = received.histogram(labels, extra[2])
        self.sent: Histogram = sent.histogram(labels, extra[3])


class _Extra:
    """Values of labels that the configuration adds. What clients can make up is bounded: later ones are `unknown`."""

    __slots__ = ("_known", "_values")

    def __init__(self, metrics: tuple[Metric, ...]) -> None:
        self._values: tuple[tuple[Value, ...], ...] = tuple(metric.extra for metric in metrics)
        self._known: set[tuple[tuple[str, ...], ...]] = set()

    def of(self, subject: Any) -> tuple[tuple[str, ...], ...]:
        found = tuple(tuple(value(subject) for value in values) for values in self._values)
        if found not in self._known:
            if len(self._known) >= _MAX_KNOWN:
                return tuple((UNKNOWN,) * len(values) for values in self._values)
            self._known.add(found)
        return found


class _Recorder:
    """Finds the series of a stream by what distinguishes it, and adds the stream to it."""

    __slots__ = ("_extra", "_metrics", "_none", "_series", "_sides")

    def __init__(self, sides: _Sides, metrics: tuple[Metric, ...]) -> None:
        self._sides = sides
        self._metrics = metrics
        self._series: dict[tuple[object, ...], _Series] = {}
        self._none = ((),) * len(metrics)
        self._extra = _Extra(metrics) if any(metric.extra for metric in metrics) else None

    def record(self, stream: Stream) -> None:
        host, peer = stream.host, stream.connection.peer
        workload = host.endpoint.workload if host is not None else ""
        principal = peer.principal if peer is not None else None
        secured = host is not None and host.tls is not None
        kind = stream.head.marked.get(b"content-type")
        grpc: int | str | None = None
        if kind is not None and kind.startswith(_GRPC):
            grpc = "" if (status := grpc_status(stream)) is None else status
        extra = self._none if self._extra is None else self._extra.of(stream)
        key = (
            stream.source, stream.cluster_name, workload, principal, secured, stream.status, stream.flags, grpc, extra
        )  # fmt: skip
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= _MAX_KNOWN:
                self._series.clear()  # the metrics keep their values; this only finds them faster
            labels = (
                *self._sides.labels(stream, workload, principal, secured),
                "http" if grpc is None else "grpc", str(stream.status), "" if grpc is None else str(grpc),
                stream.flags or "-", self._sides.policy(principal),
            )  # fmt: skip
            series = _Series(self._metrics, labels, extra)
            # A cluster that is not there has no service to name; one of its name may come (back).
            if not stream.cluster_name or stream.cluster_name in stream.worker.runtime.clusters:
                self._series[key] = series
        series.requests[0] += 1
        series.duration.record(stream.elapsed * 1e3)
        series.received.record(stream.bytes_received)
        series.sent.record(stream.bytes_sent)


class _TcpRecorder:
    """Counts connections when they have found their upstream, and when they end; their bytes at the end."""

    __slots__ = ("_extra", "_metrics", "_sides")

    def __init__(self, sides: _Sides, metrics: tuple[Metric, ...]) -> None:
        self._sides = sides
        self._metrics = metrics
        self._extra = _Extra(metrics)

    def opened(self, connection: TcpDownstream) -> None:
        labels = self._labels(connection)
        self._metrics[0].cell(labels, self._extra.of(connection)[0])[0] += 1

    def closed(self, connection: TcpDownstream) -> None:
        labels, extra = self._labels(connection), self._extra.of(connection)
        if connection.upstream_local_address == "":  # it never was connected
            self._metrics[0].cell(labels, extra[0])[0] += 1
        _, closed, received, sent = self._metrics
        closed.cell(labels, extra[1])[0] += 1
        received.cell(labels, extra[2])[0] += connection.bytes_received
        sent.cell(labels, extra[3])[0] += connection.bytes_sent

    def _labels(self, connection: TcpDownstream) -> tuple[str, ...]:
        host, peer = connection.host, connection.peer
        workload = host.endpoint.workload if host is not None else ""
        principal = peer.principal if peer is not None else None
        secured = host is not None and host.tls is not None
        sides = self._sides.labels(connection, workload, principal, secured)
        return (*sides, "tcp", connection.flags or "-", self._sides.policy(principal))


class _Sides:
    """Who is at the two ends, as labels. One side is this pod."""

    __slots__ = ("_destinations", "_is_inbound", "_own")

    def __init__(self, node: Node, is_inbound: bool) -> None:
        self._own = of_metadata(node.metadata)
        self._is_inbound = is_inbound
        self._destinations: dict[str, Workload] = {}

    def policy(self, principal: str | None) -> str:
        """`connection_security_policy`, which only the destination knows."""
        if not self._is_inbound:
            return UNKNOWN
        return "mutual_tls" if principal else "none"

    def labels(self, subject: Any, workload: str, principal: str | None, secured: bool) -> tuple[str, ...]:
        """The labels up to `destination_cluster`, of a stream or a TCP connection."""
        if self._is_inbound:
            source, destination = getattr(subject, "source", None) or NOBODY, self._own
            source_principal = principal or UNKNOWN
            destination_principal = self._own.principal if principal else UNKNOWN
        else:
            source, destination = self._own, self._destination(workload)
            peer = subject.upstream_peer
            source_principal = self._own.principal if secured else UNKNOWN
            destination_principal = (peer.principal if peer is not None else "") or UNKNOWN
        service, name, namespace = _service(subject)
        return (
            "destination" if self._is_inbound else "source",
            source.name, source.canonical_service, source.canonical_revision, source.namespace, source_principal,
            source.app, source.version, source.cluster,
            destination.name, destination.namespace, destination_principal, destination.app, destination.version,
            service, destination.canonical_service, destination.canonical_revision, name, namespace,
            destination.cluster,
        )  # fmt: skip

    def _destination(self, workload: str) -> Workload:
        if not workload:
            return NOBODY
        known = self._destinations.get(workload)
        if known is None:
            known = self._destinations[workload] = of_endpoint(workload)
        return known


def _service(subject: Any) -> tuple[str, str, str]:
    """Host, name and namespace of the service that was called, from the cluster's metadata.

    Never from the request: a client that makes up hosts must not make up time series. What was connected keeps its
    cluster, so that its end is counted where its beginning was, though the cluster may be gone or another by then.
    """
    cluster = subject.cluster or subject.worker.runtime.clusters.get(subject.cluster_name)
    if cluster is None:
        return UNKNOWN, UNKNOWN, UNKNOWN
    found: tuple[str, str, str]
    found = cluster.config.services[0] if cluster.config.services else (cluster.name, cluster.name, UNKNOWN)
    return found
