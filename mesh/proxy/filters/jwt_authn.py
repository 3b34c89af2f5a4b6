"""JSON Web Tokens of requests (`envoy.filters.http.jwt_authn`), what RequestAuthentication compiles to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication, PerRouteConfig

from mesh.proxy.compile.matchers import conditions, path_match
from mesh.proxy.compile.services import DATA_SOURCE, HTTP_URI, RETRY, data, http_service, own_retry
from mesh.proxy.compile.values import STRING_MATCHER, seconds, seconds_or, string_match, unpack
from mesh.proxy.fields import Place, check
from mesh.proxy.http1.head import RequestHead
from mesh.proxy.observe.counters import NamedCounters
from mesh.proxy.policy.jwt.extract import Location
from mesh.proxy.policy.jwt.keys import Jwks
from mesh.proxy.policy.jwt.sources import Local, Remote
from mesh.proxy.policy.jwt.token import AUDIENCE_NOT_ALLOWED, MISSED, UNSOUND_CLAIM, JwtError
from mesh.proxy.policy.jwt.verify import AllOf, AnyOf, Attempt, Provider, Tokens, Verifier, plain_audiences

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Steps, Surroundings
    from mesh.proxy.http.stream import Stream

_J = "envoy.extensions.filters.http.jwt_authn.v3."
SUPPORTED = {
    _J + "JwtAuthentication": frozenset(
        ("providers", "rules", "bypass_cors_preflight", "requirement_map", "strip_failure_response")
    ),
    _J + "JwtProvider": frozenset(
        ("issuer", "audiences", "subjects", "require_expiration", "max_lifetime", "remote_jwks", "local_jwks",
         "forward", "from_headers", "from_params", "from_cookies", "forward_payload_header",
         "pad_forward_payload_header", "payload_in_metadata", "normalize_payload_in_metadata", "header_in_metadata",
         "clock_skew_seconds", "claim_to_headers", "clear_route_cache")
    ),
    _J + "JwtProvider.NormalizePayload": frozenset(("space_delimited_claims",)),
    _J + "RemoteJwks": frozenset(("http_uri", "cache_duration", "async_fetch", "retry_policy")),
    _J + "JwksAsyncFetch": frozenset(),
    _J + "JwtHeader": frozenset(("name", "value_prefix")),
    _J + "JwtClaimToHeader": frozenset(("header_name", "claim_name")),
    _J + "ProviderWithAudiences": frozenset(("provider_name", "audiences")),
    _J + "JwtRequirement": frozenset(
        ("provider_name", "provider_and_audiences", "requires_any", "requires_all", "allow_missing_or_failed",
         "allow_missing")
    ),
    _J + "JwtRequirementOrList": frozenset(("requirements",)),
    _J + "JwtRequirementAndList": frozenset(("requirements",)),
    _J + "RequirementRule": frozenset(("match", "requires", "requirement_name")),
    _J + "PerRouteConfig": frozenset(("disabled", "requirement_name")),
    "google.protobuf.Empty": frozenset(),
    "envoy.config.route.v3.RouteMatch": frozenset(
        ("prefix", "path", "safe_regex", "path_separated_prefix", "case_sensitive", "headers", "query_parameters")
    ),
    "envoy.config.route.v3.HeaderMatcher": frozenset(
        ("name", "exact_match", "safe_regex_match", "range_match", "present_match", "prefix_match", "suffix_match",
         "contains_match", "string_match", "invert_match", "treat_missing_header_as_empty")
    ),
    "envoy.type.v3.Int64Range": frozenset(("start", "end")),
    "envoy.config.route.v3.QueryParameterMatcher": frozenset(("name", "string_match", "present_match")),
    **STRING_MATCHER,
    **HTTP_URI,
    **RETRY,
    **DATA_SOURCE,
}  # fmt: skip
_DEFAULT_CACHE_S = 600.0
_MAX_REALM = 256
_SPACE = re.compile(r"\s")

Matches = Callable[[RequestHead], bool]


@dataclass(frozen=True, slots=True)
class RouteRequirement:
    """A compiled PerRouteConfig; with an empty name nothing is required."""

    name: str


@dataclass(frozen=True, slots=True)
class _Filter:
    name: str
    struck: frozenset[bytes]
    rules: tuple[tuple[Matches, Verifier | None], ...]
    requirements: Mapping[str, Verifier]
    bypasses_preflight: bool
    is_terse: bool
    clears_route: bool
    counters: NamedCounters

    def authenticate(self, stream: Stream) -> bool:
        """The request step."""
        head = stream.head
        if self.struck:  # also where no token is asked for: whoever reads these headers takes them for claims
            head.remove(self.struck)
        if self.bypasses_preflight and _is_preflight(head):
            self.counters.count("cors_preflight_bypassed")
            self.counters.count("allowed")
            return False
        of_route: RouteRequirement | None = stream.of_route(self.name)
        if of_route is None:
            verifier = next((verifier for matches, verifier in self.rules if matches(head)), None)
        elif not of_route.name:
            verifier = None
        elif (verifier := self.requirements.get(of_route.name)) is None:
            self._deny_unknown(of_route.name, stream)
            return True
        if verifier is None:
            self.counters.count("allowed")
            return False
        return self._verify(verifier, stream)

    def _deny_unknown(self, name: str, stream: Stream) -> None:
        text = f"Wrong requirement_name: {name}. It should be one of [{','.join(sorted(self.requirements))}]"
        self.counters.count("denied")
        stream.reply(403, f"Failed JWT authentication: {text}".encode(), "", _details(text))

    def _verify(self, verifier: Verifier, stream: Stream) -> bool:
        attempt = Attempt()
        state = _State()
        url = _url(stream)

        def done(status: str) -> None:
            state.is_done = True
            if status:
                self._deny(status, url, stream)
                state.is_denied = True
                return
            self.counters.count("allowed")
            if self.clears_route:
                stream.find_route()
            if state.is_held:
                stream.go_on()

        verifier.verify(stream, attempt, done)
        if not state.is_done:
            state.is_held = True
            stream.hold(attempt.give_up)
        return state.is_denied or state.is_held

    def _deny(self, status: str, url: str, stream: Stream) -> None:
        self.counters.count("denied")
        code = 403 if status == AUDIENCE_NOT_ALLOWED else 503 if status.startswith(UNSOUND_CLAIM) else 401
        if self.is_terse:
            stream.reply(code, b"", "", _details(status))
            return
        error = ', error="invalid_token"' if status != MISSED else ""
        line = f'www-authenticate: Bearer realm="{url}"{error}\r\n'.encode("latin-1")
        stream.reply(code, status.encode(), "", _details(status), line)


class _State:
    """How far the verification of one request is."""

    __slots__ = ("is_denied", "is_done", "is_held")

    def __init__(self) -> None:
        self.is_denied = self.is_done = self.is_held = False


def _is_preflight(head: RequestHead) -> bool:
    return head.method == b"OPTIONS" and bool(head.get(b"origin")) and bool(head.get(b"access-control-request-method"))


def _url(stream: Stream) -> str:
    head = stream.head
    path = (head.get(b"x-envoy-original-path") or head.target)[:_MAX_REALM]
    return (b"%b://%b%b" % (head.scheme, head.authority, path)).decode("latin-1")


def _details(status: str) -> str:
    return f"jwt_authn_access_denied{{{_SPACE.sub('_', status)}}}"


# Compiling


def add(steps: Steps, packed: Any, around: Surroundings, place: Place) -> None:
    """Add the filter's step. Raises Refused."""
    config = unpack(packed, JwtAuthentication, place)
    check(config, SUPPORTED, place)
    tags = (("envoy.http_conn_manager_prefix", around.stat_prefix),)
    counters = around.stats.group(NamedCounters, f"http.{around.stat_prefix}.jwt_authn", tags)
    counters.declare(
        ("allowed", "denied", "cors_preflight_bypassed", "jwks_fetch_success", "jwks_fetch_failed", "jwt_cache_hit",
         "jwt_cache_miss")
    )  # fmt: skip
    providers = {
        name: _provider(name, config.providers[name], counters, place.at(f"providers[{name}]"))
        for name in sorted(config.providers)
    }
    named = {
        name: _requirement(config.requirement_map[name], providers, place.at(f"requirement_map[{name}]"))
        for name in config.requirement_map
    }
    rules = tuple(_rule(rule, providers, named, place.at(f"rules[{i}]")) for i, rule in enumerate(config.rules))
    made = _Filter(
        name=steps.name,
        struck=frozenset().union(*(provider.struck for provider in providers.values())),
        rules=rules,
        requirements={name: verifier for name, verifier in named.items() if verifier is not None},
        bypasses_preflight=config.bypass_cors_preflight,
        is_terse=config.strip_failure_response,
        clears_route=any(provider.clears_route for provider in providers.values()),
        counters=counters,
    )
    steps.request.append(made.authenticate)


def compile_route(packed: Any, place: Place) -> RouteRequirement:
    """PerRouteConfig. Raises Refused."""
    config = unpack(packed, PerRouteConfig, place)
    check(config, SUPPORTED, place)
    kind = config.WhichOneof("requirement_specifier")
    if kind is None or (kind == "disabled" and not config.disabled):
        raise place.refuse("a requirement is required")
    return RouteRequirement(config.requirement_name if kind == "requirement_name" else "")


def _rule(
    rule: Any, providers: Mapping[str, Provider], named: Mapping[str, Verifier | None], place: Place
) -> tuple[Matches, Verifier | None]:
    inside = place.at("match")
    path, all_of = path_match(rule.match, inside), conditions(rule.match, inside)

    def matches(head: RequestHead) -> bool:
        return path(head.target.partition(b"?")[0]) and all(condition(head) for condition in all_of)

    kind = rule.WhichOneof("requirement_type")
    if kind == "requires":
        return matches, _requirement(rule.requires, providers, place.at("requires"))
    if kind == "requirement_name":
        if rule.requirement_name not in named:
            raise place.refuse(f"there is no requirement {rule.requirement_name!r}", "requirement_name")
        return matches, named[rule.requirement_name]
    return matches, None


def _requirement(requirement: Any, providers: Mapping[str, Provider], place: Place) -> Verifier | None:
    kind = requirement.WhichOneof("requires_type")
    if kind is None:
        return None
    everyone = tuple(providers.values())
    if kind == "provider_name":
        return _tokens_of(requirement.provider_name, None, providers, place)
    if kind == "provider_and_audiences":
        both = requirement.provider_and_audiences
        return _tokens_of(both.provider_name, plain_audiences(both.audiences), providers, place.at(kind))
    if kind == "allow_missing":
        return Tokens(everyone, allows_missing=True)
    if kind == "allow_missing_or_failed":
        return Tokens(everyone, allows_failed=True)
    inside = place.at(kind)
    parts = getattr(requirement, kind).requirements
    if kind == "requires_all":
        made = [_requirement(part, providers, inside.at(f"requirements[{i}]")) for i, part in enumerate(parts)]
        return AllOf(tuple(each for each in made if each is not None))
    return _any_of(parts, providers, inside)


def _any_of(parts: Any, providers: Mapping[str, Provider], place: Place) -> Verifier:
    kinds = {part.WhichOneof("requires_type") for part in parts}
    allows_missing, allows_failed = "allow_missing" in kinds, "allow_missing_or_failed" in kinds
    verifiers: list[Verifier] = []
    for index, part in enumerate(parts):
        if part.WhichOneof("requires_type") not in ("allow_missing", "allow_missing_or_failed"):
            made = _requirement(part, providers, place.at(f"requirements[{index}]"))
            if made is not None:
                verifiers.append(made)
    if verifiers:
        return AnyOf(tuple(verifiers), allows_missing=allows_missing, allows_failed=allows_failed)
    return Tokens(tuple(providers.values()), allows_missing=allows_missing, allows_failed=allows_failed)


def _tokens_of(
    name: str, audiences: frozenset[str] | None, providers: Mapping[str, Provider], place: Place
) -> Verifier:
    provider = providers.get(name)
    if provider is None:
        raise place.refuse(f"there is no provider {name!r}", "provider_name")
    return Tokens((provider,), provider, audiences)


def _provider(name: str, config: Any, counters: NamedCounters, place: Place) -> Provider:
    subjects = config.subjects if config.HasField("subjects") else None
    claims = tuple((each.header_name.lower().encode(), each.claim_name.split(".")) for each in config.claim_to_headers)
    payload_header = config.forward_payload_header.lower().encode()
    struck = {header for header, _ in claims} | ({payload_header} if payload_header else set())
    return Provider(
        name=name,
        issuer=config.issuer,
        audiences=plain_audiences(config.audiences),
        subject=string_match(subjects, place.at("subjects")) if subjects is not None else None,
        source=_source(config, counters, place),
        locations=_locations(config),
        struck=frozenset(struck),
        skew=config.clock_skew_seconds or 60.0,
        requires_expiration=config.require_expiration,
        max_lifetime=seconds(config.max_lifetime),
        forwards=config.forward,
        payload_header=payload_header,
        pads_payload=config.pad_forward_payload_header,
        payload_key=config.payload_in_metadata,
        header_key=config.header_in_metadata,
        split_claims=tuple(config.normalize_payload_in_metadata.space_delimited_claims),
        claim_headers=claims,
        clears_route=config.clear_route_cache and bool(claims or payload_header or config.payload_in_metadata),
    )


def _locations(config: Any) -> tuple[Location, ...]:
    issuers = {config.issuer}
    found = [Location("header", h.name.lower().encode(), h.value_prefix.encode(), issuers) for h in config.from_headers]
    found += [Location("parameter", name.encode(), b"", issuers) for name in config.from_params]
    found += [Location("cookie", name.encode(), b"", issuers) for name in config.from_cookies]
    if not found:
        found = [
            Location("header", b"authorization", b"Bearer ", issuers),
            Location("parameter", b"access_token", b"", issuers),
        ]  # fmt: skip
    return tuple(found)


def _source(config: Any, counters: NamedCounters, place: Place) -> Local | Remote:
    kind = config.WhichOneof("jwks_source_specifier")
    if kind == "local_jwks":
        try:
            return Local(Jwks(data(config.local_jwks, place.at("local_jwks"))))
        except JwtError as error:
            raise place.refuse(f"invalid keys: {error}", "local_jwks") from error
    if kind != "remote_jwks":
        raise place.refuse("one of local_jwks, remote_jwks is required")
    remote = config.remote_jwks
    service = http_service(remote.http_uri, place.at("remote_jwks.http_uri"))
    return Remote(
        service.cluster,
        service.authority,
        service.path,
        timeout=service.timeout,
        cache_s=seconds_or(remote, "cache_duration", _DEFAULT_CACHE_S),
        retry=own_retry(remote.retry_policy) if remote.HasField("retry_policy") else None,
        is_ahead=remote.HasField("async_fetch"),
        counters=counters,
    )
