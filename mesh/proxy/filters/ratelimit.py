"""Asks a rate limit service over gRPC whether a request is one too many (`envoy.filters.http.ratelimit`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envoy.extensions.filters.http.ratelimit.v3.rate_limit_pb2 import RateLimit as RateLimitConfig
from envoy.extensions.filters.http.ratelimit.v3.rate_limit_pb2 import RateLimitPerRoute
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest, RateLimitResponse
from google.protobuf.json_format import MessageToDict

from mesh.proxy.compile import rate_limits
from mesh.proxy.compile.headers import SUPPORTED as HEADERS
from mesh.proxy.compile.headers import header_edit
from mesh.proxy.compile.matchers import HEADER_MATCHER, fraction_match
from mesh.proxy.compile.values import STRING_MATCHER, seconds_or, unpack
from mesh.proxy.fields import Place, check
from mesh.proxy.http.route import HeaderEdit
from mesh.proxy.http1.head import Head
from mesh.proxy.observe.counters import NamedCounters
from mesh.proxy.observe.stats import Stats
from mesh.proxy.policy.rate_limits import RateLimit, descriptors
from mesh.proxy.upstream.grpc_client import GrpcCall

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Steps, Surroundings
    from mesh.proxy.http.stream import Stream

_L = "envoy.extensions.filters.http.ratelimit.v3."
SUPPORTED = {
    _L + "RateLimit": frozenset(
        ("domain", "stage", "request_type", "timeout", "failure_mode_deny", "rate_limit_service",
         "enable_x_ratelimit_headers", "disable_x_envoy_ratelimited_header", "rate_limited_status",
         "response_headers_to_add", "status_on_error", "stat_prefix", "filter_enabled", "filter_enforced")
    ),
    _L + "RateLimitPerRoute": frozenset(("vh_rate_limits", "rate_limits", "domain")),
    "envoy.config.ratelimit.v3.RateLimitServiceConfig": frozenset(("grpc_service", "transport_api_version")),
    "envoy.config.core.v3.GrpcService": frozenset(("envoy_grpc", "timeout")),
    "envoy.config.core.v3.GrpcService.EnvoyGrpc": frozenset(("cluster_name", "authority")),
    "envoy.config.core.v3.RuntimeFractionalPercent": frozenset(("default_value", "runtime_key")),
    "envoy.type.v3.FractionalPercent": frozenset(("numerator", "denominator")),
    "envoy.type.v3.HttpStatus": frozenset(("code",)),
    **rate_limits.SUPPORTED,
    **HEADER_MATCHER,
    **HEADERS,
    **STRING_MATCHER,
}  # fmt: skip
_PATH = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
_NAMESPACE = "envoy.filters.http.ratelimit"
_TOO_MANY, _LOWEST_ERROR, _INTERNAL_ERROR = 429, 400, 500
_TIMEOUT_S = 0.02
_DRAFT_03 = 1
_OVER_LIMIT = RateLimitResponse.OVER_LIMIT
_UNITS = {0: 0, 1: 1, 2: 60, 3: 3600, 4: 86400, 5: 2_592_000, 6: 31_536_000, 7: 604_800}  # seconds
_TYPES = ("", "both", "internal", "external")
_V3 = 2


@dataclass(frozen=True, slots=True)
class OfRoute:
    """A compiled RateLimitPerRoute."""

    host_option: int = 0
    limits: tuple[RateLimit, ...] = ()
    domain: str = ""


_NOTHING_SAID = OfRoute()


@dataclass(frozen=True, slots=True)
class _Filter:
    name: str
    source: str
    domain: str
    stage: int
    request_type: str
    cluster: str
    authority: str
    timeout: float
    denies_failure: bool
    status: int
    status_on_error: int
    tells: bool
    marks: bool
    response_edit: HeaderEdit | None
    stat_name: str
    is_enabled: Callable[[Stream], bool]
    is_enforced: Callable[[Stream], bool]
    stats: Stats

    def limit(self, stream: Stream) -> bool:
        """The request step."""
        if stream.route is None or not self._concerns(stream) or not self.is_enabled(stream):
            return False
        of_route: OfRoute = stream.of_route(self.name) or _NOTHING_SAID
        asked = descriptors(stream, self.source, self.stage, of_route.host_option, of_route.limits)
        if not asked:
            return False
        request = RateLimitRequest(domain=of_route.domain or self.domain)
        for descriptor, hits in asked:
            made = request.descriptors.add()
            for key, value in descriptor:
                made.entries.add(key=key, value=value)
            if hits is not None:
                made.hits_addend.value = hits
        call = GrpcCall(
            stream.worker, self.cluster, _PATH, request, answer=RateLimitResponse, timeout=self.timeout,
            authority=self.authority, done=lambda answer, status: self._told(stream, answer),
        )  # fmt: skip
        stream.hold(call.cancel)
        call.start()
        return True

    def _concerns(self, stream: Stream) -> bool:
        if self.request_type in ("", "both"):
            return True
        return (stream.head.marked.get(b"x-envoy-internal") == b"true") == (self.request_type == "internal")

    def _told(self, stream: Stream, answer: Any) -> None:
        if answer is None:
            self._fail(stream)
            return
        if answer.HasField("dynamic_metadata"):
            stream.metadata.setdefault(_NAMESPACE, {}).update(MessageToDict(answer.dynamic_metadata))
        over = answer.overall_code == _OVER_LIMIT
        self._count("over_limit" if over else "ok", stream)
        lines = [(each.key.lower().encode(), each.value.encode()) for each in answer.response_headers_to_add]
        if self.tells:
            lines += _draft_03(answer)
        if over and self.is_enforced(stream):
            self._deny(stream, answer, lines)
            return
        if lines:
            stream.on_response(lambda head, _: _add(head, lines))
        for each in answer.request_headers_to_add:
            stream.head.add(each.key.lower().encode(), each.value.encode())
        stream.go_on()

    def _deny(self, stream: Stream, answer: Any, lines: list[tuple[bytes, bytes]]) -> None:
        cluster = stream.worker.runtime.clusters.get(stream.cluster_name)
        if cluster is not None:
            cluster.stats.codes.count(self.status)
        if self.marks:
            lines.append((b"x-envoy-ratelimited", b"true"))
        stream.on_response(lambda head, _: _add(head, lines))
        if self.response_edit is not None:
            stream.on_response(self.response_edit.apply)
        stream.reply(self.status, answer.raw_body, "RL", "request_rate_limited")

    def _fail(self, stream: Stream) -> None:
        self._count("error", stream)
        if self.denies_failure:
            stream.reply(self.status_on_error, b"", "RLSE", "rate_limiter_error")
            return
        self._count("failure_mode_allowed", stream)
        stream.go_on()

    def _count(self, kind: str, stream: Stream) -> None:
        name = stream.cluster_name
        if name in stream.worker.runtime.clusters:
            tags = (("envoy.cluster_name", name),)
            self.stats.group(NamedCounters, f"cluster.{name}.{self.stat_name}", tags).count(kind)


def _add(head: Head, lines: list[tuple[bytes, bytes]]) -> None:
    for name, value in lines:
        head.add(name, value)


def _draft_03(answer: Any) -> list[tuple[bytes, bytes]]:
    """What is left of the tightest limit, and all limits as quota policies."""
    known = [status for status in answer.statuses if status.HasField("current_limit")]
    if not known:
        return []
    tightest = min(known, key=lambda status: status.limit_remaining)
    text = str(tightest.current_limit.requests_per_unit)
    for status in known:
        limit = status.current_limit
        if window := _UNITS.get(limit.unit, 0):
            text += f", {limit.requests_per_unit};w={window}" + (f';name="{limit.name}"' if limit.name else "")
    return [
        (b"x-ratelimit-limit", text.encode()),
        (b"x-ratelimit-remaining", b"%d" % tightest.limit_remaining),
        (b"x-ratelimit-reset", b"%d" % tightest.duration_until_reset.seconds),
    ]


# Compiling


def add(steps: Steps, packed: Any, around: Surroundings, place: Place) -> None:
    """Add the filter's step. Raises Refused."""
    config = unpack(packed, RateLimitConfig, place)
    check(config, SUPPORTED, place)
    service = config.rate_limit_service.grpc_service
    if not service.HasField("envoy_grpc"):
        raise place.refuse("only envoy_grpc is supported by this sidecar", "rate_limit_service.grpc_service")
    if config.rate_limit_service.transport_api_version not in (0, _V3):
        raise place.refuse("only V3 is supported", "rate_limit_service.transport_api_version")
    if not config.domain:
        raise place.refuse("is required", "domain")
    if config.request_type not in _TYPES:
        raise place.refuse("must be one of internal, external, both", "request_type")
    made = _Filter(
        name=steps.name,
        source=around.node.cluster,
        domain=config.domain,
        stage=config.stage,
        request_type=config.request_type,
        cluster=service.envoy_grpc.cluster_name,
        authority=service.envoy_grpc.authority,
        timeout=seconds_or(config, "timeout", _TIMEOUT_S),
        denies_failure=config.failure_mode_deny,
        status=config.rate_limited_status.code if config.rate_limited_status.code >= _LOWEST_ERROR else _TOO_MANY,
        status_on_error=config.status_on_error.code or _INTERNAL_ERROR,
        tells=config.enable_x_ratelimit_headers == _DRAFT_03,
        marks=not config.disable_x_envoy_ratelimited_header,
        response_edit=header_edit([(config.response_headers_to_add, (), place)]),
        stat_name=f"ratelimit.{config.stat_prefix}" if config.stat_prefix else "ratelimit",
        is_enabled=_share(config, "filter_enabled"),
        is_enforced=_share(config, "filter_enforced"),
        stats=around.stats,
    )
    steps.request.append(made.limit)


def compile_route(packed: Any, place: Place) -> OfRoute:
    """RateLimitPerRoute. Raises Refused."""
    config = unpack(packed, RateLimitPerRoute, place)
    check(config, SUPPORTED, place)
    return OfRoute(config.vh_rate_limits, rate_limits.rate_limits(config.rate_limits, place), config.domain)


def _share(config: Any, field: str) -> Callable[[Stream], bool]:
    if not config.HasField(field):
        return lambda stream: True
    return fraction_match(getattr(config, field).default_value)
