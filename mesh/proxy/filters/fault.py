"""HTTP fault injection (`envoy.filters.http.fault`): delay first, then abort, each with its own probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault

from mesh.proxy.compile.matchers import header_match
from mesh.proxy.compile.values import STRING_MATCHER, chance, seconds, unpack, value_or
from mesh.proxy.counters import HttpStats
from mesh.proxy.fields import Place, check
from mesh.proxy.http1.head import RequestHead
from mesh.proxy.rescue import RESCUE, Aborted

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Steps, Surroundings
    from mesh.proxy.stream import Stream

TYPE = HTTPFault.DESCRIPTOR.full_name
SUPPORTED = {
    TYPE: frozenset(("delay", "abort", "upstream_cluster", "headers", "downstream_nodes", "max_active_faults")),
    "envoy.extensions.filters.common.fault.v3.FaultDelay": frozenset(("fixed_delay", "percentage")),
    "envoy.extensions.filters.http.fault.v3.FaultAbort": frozenset(("http_status", "percentage")),
    "envoy.type.v3.FractionalPercent": frozenset(("numerator", "denominator")),
    "envoy.config.route.v3.HeaderMatcher": frozenset(
        ("name", "exact_match", "safe_regex_match", "range_match", "present_match", "prefix_match", "suffix_match",
         "contains_match", "string_match", "invert_match", "treat_missing_header_as_empty")
    ),
    "envoy.type.v3.Int64Range": frozenset(("start", "end")),
    **STRING_MATCHER,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FaultPolicy:
    """A compiled HTTPFault. `delay` in seconds."""

    delay: float
    delays: Callable[[], bool]
    status: int
    aborts: Callable[[], bool]
    conditions: tuple[Callable[[RequestHead], bool], ...]
    upstream_cluster: str
    max_active: int | None

    def concerns(self, stream: Stream) -> bool:
        """Whether the fault is meant for this request at all."""
        if self.upstream_cluster and stream.cluster_name != self.upstream_cluster:
            return False
        return all(condition(stream.head) for condition in self.conditions)


def compile_route(packed: Any, place: Place) -> FaultPolicy:
    """Raises Refused."""
    config = unpack(packed, HTTPFault, place)
    check(config, SUPPORTED, place)
    if config.downstream_nodes:
        raise place.refuse("not supported by this sidecar", "downstream_nodes")
    if config.HasField("abort") and not 200 <= config.abort.http_status < 600:
        raise place.refuse("a status of 200 to 599 is required", "abort.http_status")
    return FaultPolicy(
        delay=seconds(config.delay.fixed_delay),
        delays=chance(config.delay.percentage) if config.HasField("delay") else _never,
        status=config.abort.http_status,
        aborts=chance(config.abort.percentage) if config.HasField("abort") else _never,
        conditions=tuple(header_match(h, place.at(f"headers[{i}]")) for i, h in enumerate(config.headers)),
        upstream_cluster=config.upstream_cluster,
        max_active=value_or(config, "max_active_faults", None),
    )


def _never() -> bool:
    return False


def add(steps: Steps, packed: Any, around: Surroundings, place: Place) -> None:
    """Add the filter's step. A route's own policy replaces the filter's."""
    default = compile_route(packed, place)
    name, stats = steps.name, around.http_stats

    def inject(stream: Stream) -> bool:
        policy = stream.of_route(name) or default
        if policy.delay == 0 and policy.status == 0:
            return False
        return _inject(stream, policy, stats)

    steps.request.append(inject)


def _inject(stream: Stream, policy: FaultPolicy, stats: HttpStats) -> bool:
    if not policy.concerns(stream):
        return False
    delays = policy.delay > 0 and policy.delays()
    if delays and _may_fault(policy, stats):
        stats.fault__delays_injected += 1
        stats.fault__active_faults += 1
        stream.add_flag("DI")

        def wake() -> None:
            if not _abort(stream, policy, stats, active=True):
                stats.fault__active_faults -= 1
                stream.resume()

        def gone() -> None:
            stats.fault__active_faults -= 1

        stream.park(policy.delay, wake, gone)
        return True
    return _abort(stream, policy, stats, active=False)


def _abort(stream: Stream, policy: FaultPolicy, stats: HttpStats, active: bool) -> bool:
    if not policy.status or not policy.aborts() or not (active or _may_fault(policy, stats)):
        return False
    if active:
        stats.fault__active_faults -= 1
    stats.fault__aborts_injected += 1
    rescue = RESCUE[Aborted]
    stream.reply(policy.status, rescue.body.encode(), rescue.flag, rescue.details)
    return True


def _may_fault(policy: FaultPolicy, stats: HttpStats) -> bool:
    if policy.max_active is None or stats.fault__active_faults < policy.max_active:
        return True
    stats.fault__faults_overflow += 1
    return False
