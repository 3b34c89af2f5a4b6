"""Asks a service whether a request may go on (`envoy.filters.http.ext_authz`): CUSTOM authorization."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envoy.extensions.filters.http.ext_authz.v3.ext_authz_pb2 import ExtAuthz, ExtAuthzPerRoute

from mesh.proxy.compile.headers import SUPPORTED as HEADERS
from mesh.proxy.compile.headers import header_edit
from mesh.proxy.compile.matchers import fraction_match
from mesh.proxy.compile.services import HTTP_URI, RETRY, http_service, own_retry
from mesh.proxy.compile.values import STRING_MATCHER, seconds, string_match, unpack
from mesh.proxy.fields import Place, check
from mesh.proxy.http.rescue import RequestTooLarge
from mesh.proxy.observe.counters import NamedCounters
from mesh.proxy.observe.stats import Stats
from mesh.proxy.policy.ext_authz.http import HttpAuthorization, NameMatch
from mesh.proxy.policy.ext_authz.verdict import DENIED, OK, Edit, Question, Service, Verdict, edit, edit_request

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Steps, Surroundings
    from mesh.proxy.http.stream import Stream

_A = "envoy.extensions.filters.http.ext_authz.v3."
SUPPORTED = {
    _A + "ExtAuthz": frozenset(
        ("grpc_service", "http_service", "transport_api_version", "failure_mode_allow", "failure_mode_allow_header_add",
         "with_request_body", "clear_route_cache", "status_on_error", "metadata_context_namespaces", "filter_enabled",
         "include_peer_certificate", "stat_prefix", "allowed_headers", "disallowed_headers", "include_tls_session",
         "charge_cluster_response_stats")
    ),
    _A + "BufferSettings": frozenset(("max_request_bytes", "allow_partial_message", "pack_as_bytes")),
    _A + "HttpService": frozenset(
        ("server_uri", "path_prefix", "authorization_request", "authorization_response", "retry_policy")
    ),
    _A + "AuthorizationRequest": frozenset(("allowed_headers", "headers_to_add")),
    _A + "AuthorizationResponse": frozenset(
        ("allowed_upstream_headers", "allowed_upstream_headers_to_append", "allowed_client_headers",
         "allowed_client_headers_on_success", "dynamic_metadata_from_headers")
    ),
    _A + "ExtAuthzPerRoute": frozenset(("disabled", "check_settings")),
    _A + "CheckSettings": frozenset(("context_extensions", "disable_request_body_buffering", "with_request_body")),
    "envoy.config.core.v3.GrpcService": frozenset(("envoy_grpc", "timeout", "initial_metadata")),
    "envoy.config.core.v3.GrpcService.EnvoyGrpc": frozenset(("cluster_name", "authority")),
    "envoy.config.core.v3.HeaderValue": HEADERS["envoy.config.core.v3.HeaderValue"],
    "envoy.config.core.v3.RuntimeFractionalPercent": frozenset(("default_value", "runtime_key")),
    "envoy.type.v3.FractionalPercent": frozenset(("numerator", "denominator")),
    "envoy.type.v3.HttpStatus": frozenset(("code",)),
    "envoy.type.matcher.v3.ListStringMatcher": frozenset(("patterns",)),
    **HTTP_URI,
    **RETRY,
    **STRING_MATCHER,
}  # fmt: skip
_NAMESPACE = "envoy.filters.http.ext_authz"
_ALWAYS_SENT = frozenset((b"authorization",))
_ALWAYS_ANSWERED = frozenset((b"www-authenticate", b"location", b"proxy-authenticate", b"path"))
_PSEUDO = (":method", ":path", ":scheme", ":authority")  # the last stands for the line of `host`
_V2 = 1
_INVALID, _TOO_LARGE = "invalid", "request_header_limits_reached"


@dataclass(frozen=True, slots=True)
class Bodies:
    """`BufferSettings`."""

    most: int
    allows_partial: bool


@dataclass(frozen=True, slots=True)
class OfRoute:
    """A compiled ExtAuthzPerRoute."""

    is_disabled: bool = False
    extensions: tuple[tuple[str, str], ...] = ()
    bodies: Bodies | None = None
    sends_no_body: bool = False


_NOTHING_SAID = OfRoute()


@dataclass(frozen=True, slots=True)
class _Filter:
    name: str
    service: Service
    bodies: Bodies | None
    is_enabled: Callable[[Stream], bool]
    allows_failure: bool
    tells_failure: bool
    clears_route: bool
    status_on_error: int
    charges_cluster: bool
    stat_name: str
    counters: NamedCounters
    stats: Stats

    def authorize(self, stream: Stream) -> bool:
        """The request step."""
        of_route: OfRoute = stream.of_route(self.name) or _NOTHING_SAID
        if stream.route is None or of_route.is_disabled:
            return False
        if not self.is_enabled(stream):
            self.counters.count("disabled")
            return False
        bodies = None if of_route.sends_no_body else of_route.bodies or self.bodies
        if bodies is None or not stream.has_body:
            self._ask(stream, Question(stream, extensions=of_route.extensions))
            return True

        def then() -> None:
            self._ask_with_body(stream, bodies, of_route)

        if not stream.collect_body(bodies.most - 1 if bodies.allows_partial else bodies.most, then):
            then()
        return True

    def _ask_with_body(self, stream: Stream, bodies: Bodies, of_route: OfRoute) -> None:
        body = stream.request_body
        if len(body) > bodies.most and not bodies.allows_partial:
            stream.config.stats.downstream_rq_too_large += 1
            stream.fail(RequestTooLarge())
            return
        is_partial = len(body) >= bodies.most if bodies.allows_partial else False
        self._ask(stream, Question(stream, body[: bodies.most], is_partial, of_route.extensions))

    def _ask(self, stream: Stream, question: Question) -> None:
        began = time.monotonic()
        waiting: list[Callable[[], None]] = []

        def gone() -> None:
            for cancel in waiting:
                cancel()

        stream.hold(gone)
        waiting.append(self.service.ask(question, lambda verdict: self._told(stream, verdict, began)))

    def _told(self, stream: Stream, verdict: Verdict, began: float) -> None:
        if verdict.kind != OK:
            self._count(verdict.kind, stream)
        if verdict.metadata:
            told = stream.metadata.setdefault(_NAMESPACE, {})
            told |= {**verdict.metadata, "ext_authz_duration": int((time.monotonic() - began) * 1e3)}
        if verdict.kind == OK:
            self._pass(stream, verdict)
        elif verdict.kind == DENIED:
            self._deny(stream, verdict)
        else:
            self._fail(stream, verdict)

    def _pass(self, stream: Stream, verdict: Verdict) -> None:
        if verdict.unsound:
            details = f"filter_removed_required_request_headers{{{verdict.unsound.replace(' ', '_')}}}"
            stream.reply(503, verdict.unsound.encode(), "DPE", details)
            return
        edit_request(stream.head, verdict.upstream)
        if verdict.removed:
            stream.head.remove(verdict.removed)
        if verdict.upstream and _is_too_large(stream):
            self.counters.count(_TOO_LARGE)
            self._count(_INVALID, stream)
            stream.reply(500, b"", "UAEX", "ext_authz_invalid")
            return
        if verdict.query is not None:
            stream.head.target = verdict.query.apply(stream.head.target)
        self._count(OK, stream)
        if verdict.client:
            stream.on_response(lambda head, _: edit(head, verdict.client))
        if self.clears_route and (verdict.upstream or verdict.removed or verdict.query is not None):
            stream.find_route()
        stream.go_on()

    def _deny(self, stream: Stream, verdict: Verdict) -> None:
        if self.charges_cluster:
            cluster = stream.worker.runtime.clusters.get(stream.cluster_name)
            if cluster is not None:
                cluster.stats.codes.count(verdict.status)
        stream.on_response(lambda head, _: edit(head, _without_framing(verdict.client)))
        stream.reply(verdict.status, verdict.body, "UAEX", "ext_authz_denied")

    def _fail(self, stream: Stream, verdict: Verdict) -> None:
        if not self.allows_failure:
            stream.reply(self.status_on_error, b"", "UAEX", "ext_authz_error")
            return
        self._count("failure_mode_allowed", stream)
        if self.tells_failure:
            stream.head.set(b"x-envoy-auth-failure-mode-allowed", b"true")
        stream.go_on()

    def _count(self, kind: str, stream: Stream) -> None:
        """Here, and in the cluster that the request is for."""
        self.counters.count(kind)
        name = stream.cluster_name
        if name in stream.worker.runtime.clusters:
            tags = (("envoy.cluster_name", name),)
            self.stats.group(NamedCounters, f"cluster.{name}.{self.stat_name}", tags).count(kind)


def _is_too_large(stream: Stream) -> bool:
    """Whether the request has become larger than a client's may be, counted with its pseudo headers as Envoy does."""
    head, config = stream.head, stream.config
    size = sum(map(len, head.lines)) - 2 * len(head.lines) + len(head.method) + len(head.target) + len(head.scheme)
    return len(head.lines) + len(_PSEUDO) - 1 > config.max_headers or size + sum(map(len, _PSEUDO)) > config.max_head


def _without_framing(edits: tuple[Edit, ...]) -> tuple[Edit, ...]:
    return tuple(each for each in edits if each[0] != b"content-length")


# Compiling


def add(steps: Steps, packed: Any, around: Surroundings, place: Place) -> None:
    """Add the filter's step. Raises Refused."""
    config = unpack(packed, ExtAuthz, place)
    check(config, SUPPORTED, place)
    if config.transport_api_version == _V2:
        raise place.refuse("only V3 is supported", "transport_api_version")
    tags = (("envoy.http_conn_manager_prefix", around.stat_prefix),)
    stat_name = f"ext_authz.{config.stat_prefix}" if config.stat_prefix else "ext_authz"
    counters = around.stats.group(NamedCounters, f"http.{around.stat_prefix}.{stat_name}", tags)
    counters.declare((OK, DENIED, "error", "disabled", "failure_mode_allowed", _INVALID, _TOO_LARGE))
    enabled: Callable[[Stream], bool] = lambda stream: True  # noqa: E731
    if config.HasField("filter_enabled"):
        enabled = fraction_match(config.filter_enabled.default_value)
    made = _Filter(
        name=steps.name,
        service=_service(config, place),
        bodies=_bodies(config.with_request_body, place) if config.HasField("with_request_body") else None,
        is_enabled=enabled,
        allows_failure=config.failure_mode_allow,
        tells_failure=config.failure_mode_allow_header_add,
        clears_route=config.clear_route_cache,
        status_on_error=config.status_on_error.code or 403,
        charges_cluster=not config.HasField("charge_cluster_response_stats")
        or config.charge_cluster_response_stats.value,
        stat_name=stat_name,
        counters=counters,
        stats=around.stats,
    )
    steps.request.append(made.authorize)


def compile_route(packed: Any, place: Place) -> OfRoute:
    """ExtAuthzPerRoute. Raises Refused."""
    config = unpack(packed, ExtAuthzPerRoute, place)
    check(config, SUPPORTED, place)
    if config.WhichOneof("override") != "check_settings":
        return OfRoute(is_disabled=config.disabled)
    settings = config.check_settings
    inside = place.at("check_settings.with_request_body")
    return OfRoute(
        extensions=tuple(sorted(settings.context_extensions.items())),
        bodies=_bodies(settings.with_request_body, inside) if settings.HasField("with_request_body") else None,
        sends_no_body=settings.disable_request_body_buffering,
    )


def _bodies(settings: Any, place: Place) -> Bodies:
    if not settings.max_request_bytes:
        raise place.refuse("must be greater than 0", "max_request_bytes")
    return Bodies(settings.max_request_bytes, settings.allow_partial_message)


def _service(config: Any, place: Place) -> Service:
    kind = config.WhichOneof("services")
    if kind == "http_service":
        return _http(config, place.at("http_service"))
    if kind == "grpc_service":
        return _grpc(config, place.at("grpc_service"))
    raise place.refuse("one of http_service, grpc_service is required")


def _grpc(config: Any, place: Place) -> Service:
    from mesh.proxy.policy.ext_authz.grpc import GrpcAuthorization  # noqa: PLC0415 - its messages are many

    service = config.grpc_service
    if not service.HasField("envoy_grpc"):
        raise place.refuse("only envoy_grpc is supported by this sidecar")
    return GrpcAuthorization(
        cluster=service.envoy_grpc.cluster_name,
        authority=service.envoy_grpc.authority,
        timeout=seconds(service.timeout),
        metadata=tuple((each.key.lower().encode(), each.value.encode()) for each in service.initial_metadata),
        sends=_sent(config, config.allowed_headers, place, lambda name: True),
        sends_certificate=config.include_peer_certificate,
        sends_server_name=config.include_tls_session,
        packs_bytes=config.with_request_body.pack_as_bytes,
        namespaces=tuple(config.metadata_context_namespaces),
    )


def _http(config: Any, place: Place) -> Service:
    service, request, answer = (
        config.http_service, config.http_service.authorization_request, config.http_service.authorization_response
    )  # fmt: skip
    allowed = config.allowed_headers if config.HasField("allowed_headers") else request.allowed_headers
    inside = place.at("authorization_response")
    client = None
    if answer.allowed_client_headers.patterns:
        wanted = _names(answer.allowed_client_headers, inside.at("allowed_client_headers"))
        client = lambda name: name in _ALWAYS_ANSWERED or wanted(name)  # noqa: E731
    return HttpAuthorization(
        service=http_service(service.server_uri, place.at("server_uri")),
        prefix=service.path_prefix.encode(),
        sends=_sent(config, allowed, place, _ALWAYS_SENT.__contains__),
        additions=_additions(request.headers_to_add, place.at("authorization_request")),
        upstream=_names(answer.allowed_upstream_headers, inside),
        upstream_appended=_names(answer.allowed_upstream_headers_to_append, inside),
        client=client,
        client_on_success=_names(answer.allowed_client_headers_on_success, inside),
        metadata=_names(answer.dynamic_metadata_from_headers, inside),
        retry=own_retry(service.retry_policy) if service.HasField("retry_policy") else None,
    )


def _additions(values: Any, place: Place) -> Any:
    from envoy.config.core.v3.base_pb2 import HeaderValueOption  # noqa: PLC0415

    options = [HeaderValueOption(header=each, append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD)
               for each in values]  # fmt: skip
    return header_edit([(options, (), place)])


def _sent(config: Any, allowed: Any, place: Place, default: NameMatch) -> NameMatch:
    """Which of the request's headers go along; `default` says what goes unless something else is allowed."""
    matches = default
    if allowed.patterns:
        named = _names(allowed, place.at("allowed_headers"))
        matches = lambda name: name in _ALWAYS_SENT or named(name)  # noqa: E731
    if config.disallowed_headers.patterns:
        barred = _names(config.disallowed_headers, place.at("disallowed_headers"))
        return lambda name: matches(name) and not barred(name)
    return matches


def _names(matcher: Any, place: Place) -> NameMatch:
    """Names that one of the patterns matches, without regard to case, as header names have none."""
    some = tuple(string_match(each, place.at(f"patterns[{i}]")) for i, each in enumerate(matcher.patterns))
    return lambda name: any(match(name) for match in some)
