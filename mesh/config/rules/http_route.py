"""One HTTP route of a VirtualService: matches, actions, retries, faults."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from http import HTTPStatus

from mesh.api.virtual_service import (
    CorsPolicy,
    FaultAbort,
    FaultDelay,
    Headers,
    HTTPDirectResponse,
    HTTPMatchRequest,
    HTTPRedirect,
    HTTPRetry,
    HTTPRewrite,
    HTTPRoute,
    Percent,
    StringMatch,
)
from mesh.config.rules.checks import (
    Place,
    check_duration,
    check_gateway_names,
    check_header_name,
    check_header_value,
    check_labels,
    check_non_negative,
    check_percent,
    check_port,
    check_regex,
    is_dns_label,
)

_MAX_BODY = 1024 * 1024
_STATUSES = {status.value for status in HTTPStatus}
_PSEUDO_HEADERS = {":method", ":scheme", ":authority", ":path", ":status"}
_RETRY_ON = {
    "5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream",
    "retriable-status-codes", "retriable-headers", "envoy-ratelimited", "http3-post-connect-failure",
    "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
}  # fmt: skip
"""Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on` words that Istio lets through."""

_GRPC_STATUSES = {
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}  # fmt: skip
_CORS_METHODS = {"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "*"}


def check_http_route(route: HTTPRoute, at: Place) -> None:
    """All of a route but its destinations, whose checks it shares with TCP."""
    _check_actions(route, at)
    for index, match in enumerate(route.match):
        _check_match(match, at / "match" / index)
    check_header_operations(route.headers, at / "headers")
    _check_cors(route.cors_policy, at / "corsPolicy")
    _check_fault(route, at / "fault")
    _check_mirroring(route, at)
    _check_redirect(route.redirect, at / "redirect")
    _check_direct_response(route.direct_response, at / "directResponse")
    _check_retry(route.retries, at / "retries")
    _check_rewrite(route.rewrite, at / "rewrite")
    _check_single_authority(route, at)
    check_duration(route.timeout, at / "timeout")


def _check_actions(route: HTTPRoute, at: Place) -> None:
    actions = {
        "route": bool(route.route),
        "redirect": route.redirect is not None,
        "directResponse": route.direct_response is not None,
        "delegate": route.delegate is not None,
    }
    chosen = [name for name, present in actions.items() if present]
    if len(chosen) != 1:
        given = f", not both {' and '.join(chosen)}" if chosen else ""
        at.refuse(f"must have exactly one of route, redirect, directResponse or delegate{given}")
    for action in ("redirect", "directResponse"):
        if actions[action] and route.fault is not None:
            (at / "fault").refuse(f"a fault cannot be injected into a {action}; leave one of them out")
        if actions[action] and route.rewrite is not None:
            (at / "rewrite").refuse(f"a {action} does not forward, so rewrite has nothing to rewrite; leave one out")


def _check_match(match: HTTPMatchRequest, at: Place) -> None:
    for name, single in (
        ("uri", match.uri),
        ("scheme", match.scheme),
        ("method", match.method),
        ("authority", match.authority),
    ):
        if single is not None:
            _check_string_match(single, at / name, presence=False, empty=False)
    for name, string in match.headers.items():
        _check_matched_header(name, string, at / "headers" / name)
    for name, string in match.without_headers.items():
        _check_matched_header(name, string, at / "withoutHeaders" / name)
    for name, string in match.query_params.items():
        _check_string_match(string, at / "queryParams" / name, presence=True, empty=True)
    if match.port:
        check_port(match.port, at / "port")
    check_labels(match.source_labels, at / "sourceLabels")
    check_gateway_names(match.gateways, at / "gateways")
    if match.source_namespace and not is_dns_label(match.source_namespace):
        (at / "sourceNamespace").refuse(f'"{match.source_namespace}" is not a namespace')


def _check_matched_header(name: str, string: StringMatch, at: Place) -> None:
    if name not in _PSEUDO_HEADERS:
        check_header_name(name, at)
    _check_string_match(string, at, presence=True, empty=True)


def _check_string_match(string: StringMatch, at: Place, *, presence: bool, empty: bool) -> None:
    """`presence`: `{}` has a meaning here; `empty`: so has an exact empty string."""
    if string.regex is not None:
        check_regex(string.regex, at / "regex")
    if string.prefix == "":
        (at / "prefix").refuse("must not be empty; leave the match out to match everything")
    if string.exact == "" and not empty:
        (at / "exact").refuse("must not be empty; leave the match out to match everything")
    if not presence and string == StringMatch():
        at.refuse("must have one of exact, prefix or regex")


def check_header_operations(headers: Headers | None, at: Place) -> None:
    """Headers to add, set and remove. Only `set` and `add` on the request may name the authority."""
    if headers is None:
        return
    for side, operations in (("request", headers.request), ("response", headers.response)):
        if operations is None:
            continue
        for verb, values in (("add", operations.add), ("set", operations.set)):
            _check_edits(values, at / side / verb, authority=side == "request")
        for index, name in enumerate(operations.remove):
            _check_edited_name(name, at / side / "remove" / index, authority=False)


def _check_edits(values: Mapping[str, str], at: Place, *, authority: bool) -> None:
    for name, value in values.items():
        _check_edited_name(name, at / name, authority=authority)
        check_header_value(value, at / name)


def _check_edited_name(name: str, at: Place, *, authority: bool) -> None:
    if is_authority(name):
        if not authority:
            at.refuse(f'"{name}" cannot be changed here')
    elif name.startswith(":"):
        at.refuse(f'the pseudo-header "{name}" cannot be changed')
    else:
        check_header_name(name, at)


def is_authority(name: str) -> bool:
    """Whether a header name means the authority."""
    return name.lower() in ("host", ":authority")


def _check_single_authority(route: HTTPRoute, at: Place) -> None:
    request = route.headers.request if route.headers else None
    edits = [name for name in (*request.set, *request.add) if is_authority(name)] if request else []
    if len(edits) + bool(route.rewrite and route.rewrite.authority) > 1:
        at.refuse("the authority is set more than once; keep rewrite.authority or one header")


def _check_cors(policy: CorsPolicy | None, at: Place) -> None:
    if policy is None:
        return
    for index, origin in enumerate(policy.allow_origins):
        _check_string_match(origin, at / "allowOrigins" / index, presence=False, empty=False)
    for index, method in enumerate(policy.allow_methods):
        if method not in _CORS_METHODS:
            (at / "allowMethods" / index).refuse(f'"{method}" is not an HTTP method')
    for field, names in (("allowHeaders", policy.allow_headers), ("exposeHeaders", policy.expose_headers)):
        for index, name in enumerate(names):
            if name != "*":
                check_header_name(name, at / field / index)
    check_duration(policy.max_age, at / "maxAge")
    if policy.max_age is not None and policy.max_age.microseconds:
        (at / "maxAge").refuse("must be whole seconds")


def _check_percentage(percentage: Percent | None, at: Place) -> None:
    if percentage is not None:
        check_percent(percentage.value, at / "value")
        if 0 < percentage.value < 0.0001:
            (at / "value").refuse("is finer than one in a million; use 0 or at least 0.0001")


def _check_fault(route: HTTPRoute, at: Place) -> None:
    if route.fault is None:
        return
    if route.fault.abort is None and route.fault.delay is None:
        at.refuse("must have an abort, a delay or both")
    if route.fault.abort is not None:
        _check_abort(route.fault.abort, at / "abort")
    if route.fault.delay is not None:
        _check_delay(route.fault.delay, at / "delay")


def _check_abort(abort: FaultAbort, at: Place) -> None:
    _check_percentage(abort.percentage, at / "percentage")
    if abort.http_status is not None:
        _check_answer(abort.http_status, at / "httpStatus")
    if abort.grpc_status is not None and abort.grpc_status not in _GRPC_STATUSES:
        (at / "grpcStatus").refuse(f'"{abort.grpc_status}" is not a gRPC status such as UNAVAILABLE')
    if abort.http_status is None and abort.grpc_status is None and abort.http2_error is None:
        at.refuse("must say what to answer: httpStatus or grpcStatus")


def _check_answer(status: int, at: Place) -> None:
    """Istio lets 600 through as well, which every proxy then refuses, and with it all routes beside."""
    if not 200 <= status <= 599:
        at.refuse(f"must be between 200 and 599, not {status}")


def _check_delay(delay: FaultDelay, at: Place) -> None:
    _check_percentage(delay.percentage, at / "percentage")
    check_percent(delay.percent, at / "percent")
    check_duration(delay.fixed_delay, at / "fixedDelay")
    if delay.fixed_delay is None and delay.exponential_delay is None:
        at.refuse("must have a fixedDelay")


def _check_mirroring(route: HTTPRoute, at: Place) -> None:
    if route.mirror is not None and route.mirrors:
        (at / "mirrors").refuse("only one of mirror and mirrors may be set")
    if route.mirror_percent is not None:
        check_percent(route.mirror_percent, at / "mirrorPercent")
    if route.mirror_percentage is not None:
        check_percent(route.mirror_percentage.value, at / "mirrorPercentage" / "value")
    for index, mirrored in enumerate(route.mirrors):
        if mirrored.percentage is not None:
            check_percent(mirrored.percentage.value, at / "mirrors" / index / "percentage" / "value")


def _check_redirect(redirect: HTTPRedirect | None, at: Place) -> None:
    if redirect is None:
        return
    if redirect == HTTPRedirect(redirect_code=redirect.redirect_code):
        at.refuse("must change the uri, authority, scheme or port")
    if redirect.redirect_code not in (0, 301, 302, 303, 307, 308):
        (at / "redirectCode").refuse(f"must be 301, 302, 303, 307 or 308, not {redirect.redirect_code}")
    if redirect.scheme not in ("", "http", "https"):
        (at / "scheme").refuse(f'must be http or https, not "{redirect.scheme}"')
    if redirect.port:
        check_port(redirect.port, at / "port")


def _check_direct_response(response: HTTPDirectResponse | None, at: Place) -> None:
    if response is None:
        return
    _check_answer(response.status, at / "status")
    if response.body is None:
        return
    if response.body.bytes is not None:
        try:
            base64.b64decode(response.body.bytes, validate=True)
        except (binascii.Error, ValueError):
            (at / "body" / "bytes").refuse("must be base64")
    if len(response.body.string or response.body.bytes or "") > _MAX_BODY:
        (at / "body").refuse("must be smaller than 1 MiB")


def _check_retry(retries: HTTPRetry | None, at: Place) -> None:
    if retries is None:
        return
    check_non_negative(retries.attempts, at / "attempts")
    if retries.attempts == 0 and retries != HTTPRetry():
        (at / "attempts").refuse("0 turns retries off, so the other fields mean nothing; leave them out")
    check_duration(retries.per_try_timeout, at / "perTryTimeout")
    check_duration(retries.backoff, at / "backoff")
    for word in retries.retry_on.split(",") if retries.retry_on else ():
        if word.strip() not in _RETRY_ON and not _is_status(word.strip()):
            (at / "retryOn").refuse(f'"{word.strip()}" is not a condition to retry on, nor an HTTP status')


def _is_status(word: str) -> bool:
    return word.isascii() and word.isdigit() and int(word) in _STATUSES


def _check_rewrite(rewrite: HTTPRewrite | None, at: Place) -> None:
    if rewrite is None:
        return
    if rewrite.uri and rewrite.uri_regex_rewrite is not None:
        at.refuse("only one of uri and uriRegexRewrite may be set")
    if rewrite == HTTPRewrite():
        at.refuse("must have a uri, uriRegexRewrite or authority")
    if rewrite.uri_regex_rewrite is not None:
        check_regex(rewrite.uri_regex_rewrite.match, at / "uriRegexRewrite" / "match")
        if not rewrite.uri_regex_rewrite.rewrite:
            (at / "uriRegexRewrite" / "rewrite").refuse("must not be empty")
