"""Faults below the retry (`meshdrill.upstream_fault`): each try meets them anew, as if its host were at fault.

Envoy's fault filter stands above the router, so its aborts are not retried and its delays lie outside of the timeouts;
and Envoy takes no fault filter among a cluster's. This one is ours: a TypedStruct with the fields of HTTPFault, in the
chain or of a route, which Envoy skips where it `is_optional`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from xds.type.v3.typed_struct_pb2 import TypedStruct

from mesh.proxy.fields import Place
from mesh.proxy.filters import fault
from mesh.proxy.http.grpc import is_grpc
from mesh.proxy.http.rescue import RESCUE, Aborted
from mesh.proxy.http.response_head import local_head
from mesh.proxy.observe.downstream_counters import HttpStats

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Steps, Surroundings
    from mesh.proxy.http.exchange import Exchange

NAME = "meshdrill.upstream_fault"
_ABOVE = ("max_active_faults", "response_rate_limit", "filter_metadata", "disable_downstream_cluster_stats")


def compile_route(packed: Any, place: Place) -> fault.FaultPolicy:
    """Raises Refused."""
    struct, config = TypedStruct(), HTTPFault()
    struct.ParseFromString(packed.value)  # udpa.type.v1.TypedStruct is the same on the wire
    try:
        ParseDict(MessageToDict(struct.value), config)
    except ParseError as error:
        raise place.refuse(str(error), "value") from error
    for name in _ABOVE:
        if name in {field.name for field, _ in config.ListFields()}:
            raise place.refuse("of a fault below the retry is not supported by this sidecar", name)
    return fault.compile_policy(config, place)


def add(steps: Steps, packed: Any, around: Surroundings, place: Place) -> None:
    """Add the step that tells the router of the fault. A route's own policy replaces the filter's."""
    default = compile_route(packed, place)
    name, stats = steps.name, around.http_stats

    def prepare(stream: Any) -> bool:
        policy: fault.FaultPolicy = stream.of_route(name) or default
        if not policy.is_idle:
            stream.try_fault = TryFault(stream, policy, stats)
        return False

    steps.request.append(prepare)


class TryFault:
    """What happens to each try of one request."""

    __slots__ = ("_exchange", "_policy", "_stats")

    def __init__(self, exchange: Exchange, policy: fault.FaultPolicy, stats: HttpStats) -> None:
        self._exchange = exchange
        self._policy = policy
        self._stats = stats

    def strikes(self) -> bool:
        """Whether the try, which has its host, goes no further for now: it is delayed, or answered."""
        exchange = self._exchange
        if not self._policy.concerns(exchange):
            return False
        delay = self._policy.delay(exchange.head)
        if not delay:
            return self._aborts()
        self._stats.fault__delays_injected += 1
        exchange.add_flag("DI")
        exchange.park(delay, self._delayed)
        return True

    def _delayed(self) -> None:
        if not self._aborts():
            self._exchange.request_upstream()

    def _aborts(self) -> bool:
        exchange = self._exchange
        abort = self._policy.abort(exchange.head)
        if abort is None:
            return False
        self._stats.fault__aborts_injected += 1
        exchange.add_flag(RESCUE[Aborted].flag)
        date, text = exchange.worker.clock.date(time.monotonic()), RESCUE[Aborted].body.encode()
        if abort.grpc_status is not None and is_grpc(exchange.head):
            status = b"%d" % abort.grpc_status
            lines = b"content-type: application/grpc\r\ngrpc-status: %b\r\ngrpc-message: %b\r\n" % (status, text)
            head = local_head(abort.status, b"", lines, date)
            head.marked[b"grpc-status"] = status
            exchange.answer_try(head, b"")
        else:
            exchange.answer_try(local_head(abort.status, text, b"", date), b"" if exchange.method == b"HEAD" else text)
        return True
