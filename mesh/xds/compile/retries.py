"""Retry policies: Istio's default, and a route's own."""

from __future__ import annotations

from typing import Final

from envoy.config.route.v3.route_components_pb2 import RetryPolicy
from envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2 import PreviousHostsPredicate
from google.protobuf.wrappers_pb2 import UInt32Value

from mesh.api.virtual_service import HTTPRetry
from mesh.xds.compile.messages import duration, packed

_DEFAULT_ON: Final = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
_DEFAULT_RETRIES: Final = 2
_HOST_PICKS: Final = 5
_STATUS_CODES: Final = "retriable-status-codes"


def retry_policy(retries: HTTPRetry | None) -> RetryPolicy | None:
    """None when retries are off (`attempts: 0`). Absent means Istio's default: two retries, never on a plain 503."""
    if retries is None:
        return _policy(_DEFAULT_ON, _DEFAULT_RETRIES, skip_previous_hosts=True)
    if retries.attempts <= 0:
        return None
    policy = _policy(
        retries.retry_on or _DEFAULT_ON,
        retries.attempts,
        skip_previous_hosts=retries.retry_ignore_previous_hosts is not False,
    )
    if retries.per_try_timeout is not None:
        policy.per_try_timeout.CopyFrom(duration(retries.per_try_timeout))
    if retries.backoff is not None:
        policy.retry_back_off.base_interval.CopyFrom(duration(retries.backoff))
    return policy


def _policy(retry_on: str, attempts: int, *, skip_previous_hosts: bool) -> RetryPolicy:
    conditions, codes = _conditions(retry_on)
    policy = RetryPolicy(retry_on=conditions, num_retries=UInt32Value(value=attempts), retriable_status_codes=codes)
    if skip_previous_hosts:
        policy.retry_host_predicate.add(
            name="envoy.retry_host_predicates.previous_hosts", typed_config=packed(PreviousHostsPredicate())
        )
        policy.host_selection_retry_max_attempts = _HOST_PICKS
    return policy


def _conditions(retry_on: str) -> tuple[str, list[int]]:
    """Istio lets status codes stand among the conditions; Envoy wants them apart."""
    parts = [part.strip() for part in retry_on.split(",") if part.strip()]
    codes = [int(part) for part in parts if part.isdecimal()]
    conditions = [part for part in parts if not part.isdecimal()]
    if codes and _STATUS_CODES not in conditions:
        conditions.append(_STATUS_CODES)
    return ",".join(conditions), codes
