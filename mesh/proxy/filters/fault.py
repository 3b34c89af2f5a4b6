"""HTTP fault injection (`envoy.filters.http.fault`): delays, aborts and slow responses, each with its own probability.

A fault is configured on the filter or, standing above that, on a route; or the request asks for it by its headers,
where the configuration allows that.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from google.protobuf.json_format import MessageToDict

from mesh.proxy.compile.matchers import header_match
from mesh.proxy.compile.values import STRING_MATCHER, parts_of, seconds, unpack, value_or
from mesh.proxy.fields import Place, check
from mesh.proxy.filters.throttle import Throttle
from mesh.proxy.http.rescue import RESCUE, Aborted
from mesh.proxy.http1.head import RequestHead
from mesh.proxy.observe.counters import NamedCounters

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Steps, Surroundings
    from mesh.proxy.http.stream import Stream

TYPE = HTTPFault.DESCRIPTOR.full_name
_C = "envoy.extensions.filters.common.fault.v3."
_H = "envoy.extensions.filters.http.fault.v3."
SUPPORTED = {
    TYPE: frozenset(
        ("delay", "abort", "upstream_cluster", "headers", "downstream_nodes", "max_active_faults",
         "response_rate_limit", "disable_downstream_cluster_stats", "filter_metadata")
    ),
    _C + "FaultDelay": frozenset(("fixed_delay", "header_delay", "percentage")),
    _C + "FaultDelay.HeaderDelay": frozenset(),
    _H + "FaultAbort": frozenset(("http_status", "grpc_status", "header_abort", "percentage")),
    _H + "FaultAbort.HeaderAbort": frozenset(),
    _C + "FaultRateLimit": frozenset(("fixed_limit", "header_limit", "percentage")),
    _C + "FaultRateLimit.FixedLimit": frozenset(("limit_kbps",)),
    _C + "FaultRateLimit.HeaderLimit": frozenset(),
    "envoy.type.v3.FractionalPercent": frozenset(("numerator", "denominator")),
    "envoy.config.route.v3.HeaderMatcher": frozenset(
        ("name", "exact_match", "safe_regex_match", "range_match", "present_match", "prefix_match", "suffix_match",
         "contains_match", "string_match", "invert_match", "treat_missing_header_as_empty")
    ),
    "envoy.type.v3.Int64Range": frozenset(("start", "end")),
    **STRING_MATCHER,
}  # fmt: skip
_DELAY, _ABORT, _GRPC_ABORT, _RATE = (
    b"x-envoy-fault-delay-request", b"x-envoy-fault-abort-request", b"x-envoy-fault-abort-grpc-request",
    b"x-envoy-fault-throughput-response",
)  # fmt: skip
_LAST_GRPC_STATUS = 16
_LONGEST_NUMBER = 9  # digits that a header may have to be read as a number

Chance = Callable[[RequestHead], bool]


@dataclass(frozen=True, slots=True)
class Abort:
    """What to answer with: an HTTP status, or 200 with a status of gRPC's."""

    status: int
    grpc_status: int | None = None


@dataclass(frozen=True, slots=True)
class FaultPolicy:
    """A compiled HTTPFault: delay (seconds), answer and rate (bytes a second) of a head, falsy where none."""

    delay: Callable[[RequestHead], float]
    abort: Callable[[RequestHead], Abort | None]
    rate: Callable[[RequestHead], int]
    conditions: tuple[Callable[[RequestHead], bool], ...]
    upstream_cluster: str
    nodes: frozenset[bytes]
    max_active: int | None
    metadata: Mapping[str, Any]
    counts_clusters: bool  # also by the cluster that the request says it comes from
    is_idle: bool  # it never does anything

    def concerns(self, stream: Stream) -> bool:
        """Whether the fault is meant for this request at all."""
        if self.upstream_cluster and stream.cluster_name != self.upstream_cluster:
            return False
        if self.nodes and stream.head.get(b"x-envoy-downstream-service-node") not in self.nodes:
            return False
        return all(condition(stream.head) for condition in self.conditions)


def compile_route(packed: Any, place: Place) -> FaultPolicy:
    """Raises Refused."""
    return compile_policy(unpack(packed, HTTPFault, place), place)


def compile_policy(config: HTTPFault, place: Place) -> FaultPolicy:
    """Raises Refused."""
    check(config, SUPPORTED, place)
    return FaultPolicy(
        delay=_delay(config.delay),
        abort=_abort(config.abort, place.at("abort")),
        rate=_rate(config.response_rate_limit),
        conditions=tuple(header_match(h, place.at(f"headers[{i}]")) for i, h in enumerate(config.headers)),
        upstream_cluster=config.upstream_cluster,
        nodes=frozenset(node.encode() for node in config.downstream_nodes),
        max_active=value_or(config, "max_active_faults", None),
        metadata=MessageToDict(config.filter_metadata),
        counts_clusters=not config.disable_downstream_cluster_stats,
        is_idle=not any(
            config.HasField(kind) and getattr(config, kind).percentage.numerator
            for kind in ("delay", "abort", "response_rate_limit")
        ),
    )


def _delay(config: Any) -> Callable[[RequestHead], float]:
    kind, happens = config.WhichOneof("fault_delay_secifier"), _chance(config.percentage, _DELAY, config)
    if kind == "fixed_delay":
        fixed = seconds(config.fixed_delay)
        return lambda head: fixed if happens(head) else 0.0
    if kind == "header_delay":
        return lambda head: (_number(head, _DELAY) or 0) / 1000 if happens(head) else 0.0
    return lambda head: 0.0


def _abort(config: Any, place: Place) -> Callable[[RequestHead], Abort | None]:
    kind, happens = config.WhichOneof("error_type"), _chance(config.percentage, _ABORT, config)
    if kind == "header_abort":
        return lambda head: _asked_abort(head) if happens(head) else None
    if kind == "grpc_status":
        fixed = Abort(200, config.grpc_status)
    elif kind == "http_status":
        if not 200 <= config.http_status < 600:
            raise place.refuse("a status of 200 to 599 is required", "http_status")
        fixed = Abort(config.http_status)
    else:
        return lambda head: None
    return lambda head: fixed if happens(head) else None


def _asked_abort(head: RequestHead) -> Abort | None:
    status = _number(head, _ABORT)
    if status is not None and 200 <= status < 600:
        return Abort(status)
    grpc_status = _number(head, _GRPC_ABORT)
    return Abort(200, grpc_status) if grpc_status is not None and grpc_status <= _LAST_GRPC_STATUS else None


def _rate(config: Any) -> Callable[[RequestHead], int]:
    kind, happens = config.WhichOneof("limit_type"), _chance(config.percentage, _RATE, config)
    if kind == "fixed_limit":
        fixed = config.fixed_limit.limit_kbps * 1024
        return lambda head: fixed if happens(head) else 0
    if kind == "header_limit":
        return lambda head: (_number(head, _RATE) or 0) * 1024 if happens(head) else 0
    return lambda head: 0


def _chance(percentage: Any, header: bytes, config: Any) -> Chance:
    """A draw with a FractionalPercent; a fault that requests ask for they may ask for more seldom."""
    numerator, parts = percentage.numerator, parts_of(percentage)
    asked = header + b"-percentage"
    if any(config.HasField(name) for name in ("header_delay", "header_abort", "header_limit") if hasattr(config, name)):

        def by_header(head: RequestHead) -> bool:
            wanted = _number(head, asked)
            return random.random() * parts < (numerator if wanted is None else min(wanted, numerator))

        return by_header
    if numerator >= parts:
        return lambda head: True
    return lambda head: random.random() * parts < numerator


def _number(head: RequestHead, name: bytes) -> int | None:
    text = head.get(name)
    return int(text) if text is not None and text.isdigit() and len(text) <= _LONGEST_NUMBER else None


def add(steps: Steps, packed: Any, around: Surroundings, place: Place) -> None:
    """Add the filter's step. A route's own policy replaces the filter's."""
    default = compile_route(packed, place)
    name = steps.name

    def inject(stream: Stream) -> bool:
        policy: FaultPolicy = stream.of_route(name) or default
        if policy.is_idle or not policy.concerns(stream):
            return False
        return Injection(stream, policy, around, name).begin()

    steps.request.append(inject)


class Injection:
    """The faults of one request. It counts once among the active faults while any of them lasts."""

    __slots__ = ("_around", "_is_active", "_name", "_policy", "_stats", "_stream")

    def __init__(self, stream: Stream, policy: FaultPolicy, around: Surroundings, name: str) -> None:
        self._stream = stream
        self._policy = policy
        self._around = around
        self._stats = around.http_stats
        self._name = name
        self._is_active = False

    def begin(self) -> bool:
        """Slow the response down, then delay or abort the request; whether it stops here."""
        stream, policy, stats = self._stream, self._policy, self._stats
        rate = policy.rate(stream.head)
        if rate and self._activate():
            stats.fault__response_rl_injected += 1
            stream.throttle = Throttle(stream, rate, self._ended)
        delay = policy.delay(stream.head)
        if delay and self._activate():
            stats.fault__delays_injected += 1
            self._count_cluster("delays_injected")
            stream.add_flag("DI")
            self._tell()
            stream.park(delay, self._delayed, self._ended)
            return True
        return self._aborts()

    def _delayed(self) -> None:
        if self._aborts():
            return
        if self._stream.throttle is None:
            self._ended()
        self._stream.resume()

    def _aborts(self) -> bool:
        stream = self._stream
        abort = self._policy.abort(stream.head)
        if abort is None or not self._activate():
            return False
        self._ended()
        self._stats.fault__aborts_injected += 1
        self._count_cluster("aborts_injected")
        self._tell()
        stream.throttle = None  # an answer of our own is not slowed down
        rescue = RESCUE[Aborted]
        stream.reply(abort.status, rescue.body.encode(), rescue.flag, rescue.details, grpc_status=abort.grpc_status)
        return True

    def _count_cluster(self, counter: str) -> None:
        """Count it for the cluster that sent the request, as far as the request says which."""
        cluster = self._stream.head.get(b"x-envoy-downstream-service-cluster")
        if not cluster or not self._policy.counts_clusters:
            return
        around, name = self._around, cluster.decode("latin-1")
        # Envoy takes a name's part up to its first dot for the tag.
        tags = (
            ("envoy.http_conn_manager_prefix", around.stat_prefix),
            ("envoy.fault_downstream_cluster", name.partition(".")[0]),
        )
        around.stats.group(NamedCounters, f"http.{around.stat_prefix}.fault.{name}", tags).count(counter)

    def _tell(self) -> None:
        if self._policy.metadata:
            self._stream.metadata[self._name] = dict(self._policy.metadata)

    def _activate(self) -> bool:
        """Count it among the active faults, unless there are enough."""
        limit, stats = self._policy.max_active, self._stats
        if self._is_active:
            return True
        if limit is not None and stats.fault__active_faults >= limit:
            stats.fault__faults_overflow += 1
            return False
        stats.fault__active_faults += 1
        self._is_active = True
        return True

    def _ended(self) -> None:
        if self._is_active:
            self._is_active = False
            self._stats.fault__active_faults -= 1
