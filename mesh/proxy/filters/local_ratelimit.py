"""Limits requests by buckets of tokens of this process (`envoy.filters.http.local_ratelimit`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from envoy.extensions.filters.http.local_ratelimit.v3.local_rate_limit_pb2 import LocalRateLimit

from mesh.proxy.compile import rate_limits
from mesh.proxy.compile.headers import SUPPORTED as HEADERS
from mesh.proxy.compile.headers import header_edit
from mesh.proxy.compile.matchers import HEADER_MATCHER, fraction_match
from mesh.proxy.compile.values import STRING_MATCHER, seconds, unpack, value_or
from mesh.proxy.fields import Place, check
from mesh.proxy.http.route import HeaderEdit
from mesh.proxy.observe.counters import NamedCounters
from mesh.proxy.policy.rate_limits import Descriptor, RateLimit, TokenBucket, descriptors

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Steps, Surroundings
    from mesh.proxy.http.stream import Stream

_L = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
_C = "envoy.extensions.common.ratelimit.v3."
SUPPORTED = {
    _L: frozenset(
        ("stat_prefix", "status", "token_bucket", "filter_enabled", "filter_enforced",
         "request_headers_to_add_when_not_enforced", "response_headers_to_add", "descriptors", "stage",
         "local_rate_limit_per_downstream_connection", "enable_x_ratelimit_headers", "vh_rate_limits",
         "always_consume_default_token_bucket", "rate_limits")
    ),
    _C + "LocalRateLimitDescriptor": frozenset(("entries", "token_bucket")),
    _C + "RateLimitDescriptor.Entry": frozenset(("key", "value")),
    "envoy.type.v3.TokenBucket": frozenset(("max_tokens", "tokens_per_fill", "fill_interval")),
    "envoy.type.v3.HttpStatus": frozenset(("code",)),
    "envoy.config.core.v3.RuntimeFractionalPercent": frozenset(("default_value", "runtime_key")),
    "envoy.type.v3.FractionalPercent": frozenset(("numerator", "denominator")),
    **rate_limits.SUPPORTED,
    **HEADER_MATCHER,
    **HEADERS,
    **STRING_MATCHER,
}  # fmt: skip
_TOO_MANY = 429
_LOWEST_ERROR = 400
_SHORTEST_FILL_S = 0.05
_DRAFT_03 = 1

MakeBucket = Callable[[], TokenBucket]


class Buckets:
    """The default bucket and those of descriptors; without a default bucket all the rest is unlimited."""

    __slots__ = ("_always_default", "_default", "_of_descriptors")

    def __init__(self, default: MakeBucket | None, of: Mapping[Descriptor, MakeBucket], always_default: bool) -> None:
        self._default = default() if default is not None else None
        self._of_descriptors = {descriptor: make() for descriptor, make in of.items()}
        self._always_default = always_default

    def admit(self, asked: list[tuple[Descriptor, int | None]]) -> tuple[bool, TokenBucket | None]:
        """Whether every bucket that the request counts in had tokens for it, and the bucket that decided."""
        of = self._of_descriptors
        matched = [(bucket, hits) for descriptor, hits in asked if (bucket := of.get(descriptor)) is not None]
        if len(matched) > 1:
            matched.sort(key=lambda each: each[0].rate)
        for bucket, hits in matched:
            if not bucket.take(1 if hits is None else hits):
                return False, bucket
        default = self._default
        if default is not None and (not matched or self._always_default) and not default.take():
            return False, default
        return True, matched[0][0] if matched else default


@dataclass(frozen=True, slots=True)
class Limiter:
    """One configuration, of the chain or of a route, with its buckets."""

    status: int
    make_buckets: Callable[[], Buckets]
    buckets: Buckets
    of_connections: WeakKeyDictionary[Any, Buckets] | None
    is_enabled: Callable[[Stream], bool]
    is_enforced: Callable[[Stream], bool]
    request_edit: HeaderEdit | None
    response_edit: HeaderEdit | None
    limits: tuple[RateLimit, ...]
    stage: int
    host_option: int
    tells: bool
    name: str

    def buckets_of(self, stream: Stream) -> Buckets:
        if self.of_connections is None:
            return self.buckets
        key = stream.connection.info
        found = self.of_connections.get(key)
        if found is None:
            found = self.of_connections[key] = self.make_buckets()
        return found

    def limit(self, stream: Stream, source: str, counters: NamedCounters) -> bool:
        """The request step."""
        if not self.is_enabled(stream):
            return False
        counters.count("enabled")
        asked = descriptors(stream, source, self.stage, self.host_option, self.limits)
        admitted, bucket = self.buckets_of(stream).admit(asked)
        if self.tells and bucket is not None:
            self._tell(bucket, stream)
        if admitted:
            counters.count("ok")
            return False
        counters.count("rate_limited")
        if not self.is_enforced(stream):
            if self.request_edit is not None:
                self.request_edit.apply(stream.head, stream)
            return False
        counters.count("enforced")
        if self.response_edit is not None:
            stream.on_response(self.response_edit.apply)
        stream.reply(self.status, b"local_rate_limited", "RL", "local_rate_limited")
        return True

    @staticmethod
    def _tell(bucket: TokenBucket, stream: Stream) -> None:
        lines = (
            (b"x-ratelimit-limit", b"%d" % bucket.most),
            (b"x-ratelimit-remaining", b"%d" % bucket.remaining),
            (b"x-ratelimit-reset", b"%d" % bucket.until_next),
        )

        def tell(head: Any, stream: Stream) -> None:
            for name, value in lines:
                head.add(name, value)

        stream.on_response(tell)


def add(steps: Steps, packed: Any, around: Surroundings, place: Place) -> None:
    """Add the filter's step. A route's own configuration, with buckets of its own, replaces the chain's."""
    default = _limiter(packed, place)
    name, stats, source = steps.name, around.stats, around.node.cluster

    def limit(stream: Stream) -> bool:
        limiter: Limiter = stream.of_route(name) or default
        return limiter.limit(stream, source, stats.group(NamedCounters, limiter.name))

    stats.group(NamedCounters, default.name).declare(("enabled", "enforced", "ok", "rate_limited"))
    steps.request.append(limit)


def compile_route(packed: Any, place: Place) -> Limiter:
    """Raises Refused."""
    return _limiter(packed, place)


def _limiter(packed: Any, place: Place) -> Limiter:
    config = unpack(packed, LocalRateLimit, place)
    check(config, SUPPORTED, place)
    if not config.stat_prefix:
        raise place.refuse("is required", "stat_prefix")
    make = _buckets(config, place)
    return Limiter(
        status=config.status.code if config.status.code >= _LOWEST_ERROR else _TOO_MANY,
        make_buckets=make,
        buckets=make(),
        of_connections=WeakKeyDictionary() if config.local_rate_limit_per_downstream_connection else None,
        is_enabled=_share(config, "filter_enabled"),
        is_enforced=_share(config, "filter_enforced"),
        request_edit=header_edit([(config.request_headers_to_add_when_not_enforced, (), place)]),
        response_edit=header_edit([(config.response_headers_to_add, (), place)]),
        limits=rate_limits.rate_limits(config.rate_limits, place),
        stage=config.stage,
        host_option=config.vh_rate_limits,
        tells=config.enable_x_ratelimit_headers == _DRAFT_03,
        name=f"{config.stat_prefix}.http_local_rate_limit",
    )


def _share(config: Any, field: str) -> Callable[[Stream], bool]:
    """As in Envoy nobody is limited unless it is said of how many."""
    if not config.HasField(field):
        return lambda stream: False
    return fraction_match(getattr(config, field).default_value)


def _buckets(config: Any, place: Place) -> Callable[[], Buckets]:
    default = _bucket(config.token_bucket, place.at("token_bucket")) if config.HasField("token_bucket") else None
    of: dict[Descriptor, MakeBucket] = {}
    for index, each in enumerate(config.descriptors):
        inside = place.at(f"descriptors[{index}]")
        descriptor = tuple((entry.key, entry.value) for entry in each.entries)
        if any(not value for _, value in descriptor):
            raise inside.refuse("values that are made up at run time are not supported by this sidecar", "entries")
        if descriptor in of:
            raise inside.refuse("another descriptor is the same", "entries")
        of[descriptor] = _bucket(each.token_bucket, inside.at("token_bucket"))
    always_default = value_or(config, "always_consume_default_token_bucket", True)
    return lambda: Buckets(default, of, always_default)


def _bucket(config: Any, place: Place) -> MakeBucket:
    interval = seconds(config.fill_interval)
    if not config.max_tokens:
        raise place.refuse("must be greater than 0", "max_tokens")
    if interval < _SHORTEST_FILL_S:
        raise place.refuse("must be at least 50 ms", "fill_interval")
    rate = value_or(config, "tokens_per_fill", 1) / interval
    most = config.max_tokens
    return lambda: TokenBucket(most, rate)
