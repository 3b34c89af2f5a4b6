"""RetryPolicy messages to `retry.RetryPolicy`."""

from __future__ import annotations

from typing import Any

from mesh.proxy.compile.matchers import header_match, response_lookup
from mesh.proxy.compile.values import seconds, seconds_or, value_or
from mesh.proxy.fields import Place
from mesh.proxy.http.retry import CONDITIONS, GRPC_CONDITIONS, ResetHeader, RetryPolicy

_R = "envoy.config.route.v3."
SUPPORTED = {
    _R + "RetryPolicy": frozenset(
        ("retry_on", "num_retries", "per_try_timeout", "per_try_idle_timeout", "retry_host_predicate",
         "host_selection_retry_max_attempts", "retriable_status_codes", "retry_back_off",
         "rate_limited_retry_back_off", "retriable_headers", "retriable_request_headers")
    ),
    _R + "RetryPolicy.RetryBackOff": frozenset(("base_interval", "max_interval")),
    _R + "RetryPolicy.RateLimitedRetryBackOff": frozenset(("reset_headers", "max_interval")),
    _R + "RetryPolicy.ResetHeader": frozenset(("name", "format")),
    _R + "RetryPolicy.RetryHostPredicate": frozenset(("name", "typed_config")),
}  # fmt: skip

RETRY_ON = CONDITIONS | frozenset(GRPC_CONDITIONS.values())
_PREDICATES = {
    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate": "previous",
    "envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate": "canary",
}
_BASE, _TIMES, _LONGEST = 0.025, 10, 300.0


def retry_policy(policy: Any, place: Place) -> RetryPolicy | None:
    """None if it asks for nothing. Raises Refused."""
    names = frozenset(name.strip() for name in policy.retry_on.split(",") if name.strip())
    unknown = {name for name in names - RETRY_ON if not name.isdigit()}
    if unknown:
        raise place.refuse(f"unknown conditions {', '.join(sorted(unknown))}", "retry_on")
    base = seconds_or(policy.retry_back_off, "base_interval", _BASE)
    longest = seconds_or(policy.retry_back_off, "max_interval", base * _TIMES)
    if longest < base:
        raise place.refuse("max_interval must greater than or equal to base_interval", "retry_back_off")
    predicates = {_predicate(each, place.at("retry_host_predicate")) for each in policy.retry_host_predicate}
    compiled = RetryPolicy(
        on=names,
        count=value_or(policy, "num_retries", 1),
        per_try_timeout=seconds(policy.per_try_timeout),
        per_try_idle_timeout=seconds(policy.per_try_idle_timeout),
        statuses=frozenset(policy.retriable_status_codes),
        headers=tuple(
            header_match(each, place.at(f"retriable_headers[{i}]"), response_lookup)
            for i, each in enumerate(policy.retriable_headers)
        ),
        request_headers=tuple(
            header_match(each, place.at(f"retriable_request_headers[{i}]"))
            for i, each in enumerate(policy.retriable_request_headers)
        ),
        host_attempts=(policy.host_selection_retry_max_attempts or 1) + 1,
        skips_tried_hosts="previous" in predicates,
        skips_canaries="canary" in predicates,
        base=base,
        longest=longest,
        reset_headers=tuple(
            ResetHeader(each.name.lower().encode(), each.format == 1)
            for each in policy.rate_limited_retry_back_off.reset_headers
        ),
        longest_reset=seconds_or(policy.rate_limited_retry_back_off, "max_interval", _LONGEST),
    )
    return compiled if names or policy.ListFields() else None


def _predicate(predicate: Any, place: Place) -> str:
    kind = predicate.typed_config.TypeName()
    if kind not in _PREDICATES:
        raise place.refuse(f"{predicate.name} ({kind or 'no typed_config'}) is not supported by this sidecar")
    return _PREDICATES[kind]
