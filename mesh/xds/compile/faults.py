"""A route's fault as configuration of Envoy's fault filter."""

from __future__ import annotations

from envoy.extensions.filters.common.fault.v3.fault_pb2 import FaultDelay
from envoy.extensions.filters.http.fault.v3.fault_pb2 import FaultAbort, HTTPFault
from envoy.type.v3.percent_pb2 import FractionalPercent
from google.rpc.code_pb2 import Code

from mesh.api import virtual_service as api
from mesh.xds.compile.messages import duration, percentage


def http_fault(fault: api.HTTPFaultInjection) -> HTTPFault:
    """Delay first, then abort. A percentage that was left out is never, as in Istio."""
    result = HTTPFault()
    if fault.delay is not None and fault.delay.fixed_delay is not None:
        result.delay.CopyFrom(
            FaultDelay(fixed_delay=duration(fault.delay.fixed_delay), percentage=_delay_share(fault.delay))
        )
    if fault.abort is not None:
        share = percentage(fault.abort.percentage.value if fault.abort.percentage else 0)
        if fault.abort.http_status is not None:
            result.abort.CopyFrom(FaultAbort(http_status=fault.abort.http_status, percentage=share))
        elif fault.abort.grpc_status is not None:
            result.abort.CopyFrom(FaultAbort(grpc_status=Code.Value(fault.abort.grpc_status), percentage=share))
    return result


def _delay_share(delay: api.FaultDelay) -> FractionalPercent:
    return percentage(delay.percentage.value if delay.percentage is not None else delay.percent)
