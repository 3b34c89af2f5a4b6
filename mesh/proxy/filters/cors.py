"""Cross-origin resource sharing (`envoy.filters.http.cors`): answers preflight requests, and says to whom a response
may be shown. What a route leaves out of its policy is its virtual host's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from envoy.extensions.filters.http.cors.v3.cors_pb2 import Cors, CorsPolicy

from mesh.proxy.compile.values import STRING_MATCHER, BytesMatch, chance, string_match, unpack, value_or
from mesh.proxy.fields import Place, check
from mesh.proxy.http.route import HeaderEdit
from mesh.proxy.http1.head import Head

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Steps, Surroundings
    from mesh.proxy.http.stream import Stream

SUPPORTED = {
    Cors.DESCRIPTOR.full_name: frozenset[str](),
    CorsPolicy.DESCRIPTOR.full_name: frozenset(
        ("allow_origin_string_match", "allow_methods", "allow_headers", "expose_headers", "max_age",
         "allow_credentials", "filter_enabled", "shadow_enabled", "allow_private_network_access",
         "forward_not_matching_preflights")
    ),
    "envoy.config.core.v3.RuntimeFractionalPercent": frozenset(("default_value", "runtime_key")),
    "envoy.type.v3.FractionalPercent": frozenset(("numerator", "denominator")),
    **STRING_MATCHER,
}  # fmt: skip
_DETAILS = "cors_response"
_INHERITED = (
    "origins", "methods", "headers", "exposed", "max_age", "credentials", "private_network", "forwards_preflights"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled CorsPolicy; what is None or empty is left to the next level."""

    origins: tuple[BytesMatch, ...]
    methods: bytes
    headers: bytes
    exposed: bytes
    max_age: bytes
    credentials: bool | None
    private_network: bool | None
    forwards_preflights: bool | None
    enabled: Callable[[], bool]
    shadow: Callable[[], bool]

    def over(self, outer: Policy) -> Policy:
        """This policy where it says something, else `outer`. Whether it is enabled is said by the innermost alone."""

        unsaid = (name for name in _INHERITED if getattr(self, name) in (None, b"", ()))
        return replace(self, **{name: getattr(outer, name) for name in unsaid})

    def allows(self, origin: bytes) -> bool:
        return any(match(b"*") or match(origin) for match in self.origins)

    def share(self, head: Head, origin: bytes) -> None:
        """Say in a response that the origin may see it."""
        head.set(b"access-control-allow-origin", origin)
        if self.credentials:
            head.set(b"access-control-allow-credentials", b"true")
        if self.exposed:
            head.set(b"access-control-expose-headers", self.exposed)


def compile_route(packed: Any, place: Place) -> Policy:
    """What a route says of the filter. Raises Refused."""
    config = unpack(packed, CorsPolicy, place)
    check(config, SUPPORTED, place)
    return Policy(
        origins=tuple(
            string_match(each, place.at(f"allow_origin_string_match[{i}]"))
            for i, each in enumerate(config.allow_origin_string_match)
        ),
        methods=config.allow_methods.encode(),
        headers=config.allow_headers.encode(),
        exposed=config.expose_headers.encode(),
        max_age=config.max_age.encode(),
        credentials=value_or(config, "allow_credentials", None),
        private_network=value_or(config, "allow_private_network_access", None),
        forwards_preflights=value_or(config, "forward_not_matching_preflights", None),
        enabled=chance(config.filter_enabled.default_value) if config.HasField("filter_enabled") else _always,
        shadow=chance(config.shadow_enabled.default_value) if config.HasField("shadow_enabled") else _never,
    )


def _always() -> bool:
    return True


def _never() -> bool:
    return False


def add(steps: Steps, packed: Any, around: Surroundings, place: Place) -> None:
    """Add the filter's step, which looks for a policy only if the request says where it comes from."""
    check(unpack(packed, Cors, place), SUPPORTED, place)
    name, stats = steps.name, around.http_stats

    def judge(stream: Stream) -> bool:
        origin = stream.head.marked.get(b"origin")
        if not origin or stream.target is None:  # Envoy leaves redirects and direct responses alone
            return False
        policy: Policy | None = stream.of_route(name)
        if policy is None:
            return False
        enforced = policy.enabled()
        if not enforced and not policy.shadow():
            return False
        if not policy.allows(origin):
            stats.cors__origin_invalid += 1
            if enforced and policy.forwards_preflights is False and _asked_method(stream):
                stream.reply(200, b"", "", _DETAILS)
                return True
            return False
        stats.cors__origin_valid += 1
        if not enforced:
            return False
        stream.response_edits = (*stream.response_edits, HeaderEdit(steps=(_sharing(policy, origin),)))
        method = _asked_method(stream)
        if not method:
            return False
        stream.reply(200, b"", "", _DETAILS, _preflight(policy, stream, method))
        return True

    steps.request.append(judge)


def _asked_method(stream: Stream) -> bytes | None:
    """The method that a preflight request asks for; None or empty if it is none."""
    return stream.head.get(b"access-control-request-method") if stream.method == b"OPTIONS" else None


def _sharing(policy: Policy, origin: bytes) -> Callable[[Head, Stream], None]:
    return lambda head, stream: policy.share(head, origin)


def _preflight(policy: Policy, stream: Stream, method: bytes) -> bytes:
    head, lines = stream.head, []
    if policy.methods:
        lines.append(b"access-control-allow-methods: %b\r\n" % (method if policy.methods == b"*" else policy.methods))
    if policy.headers:
        asked = head.get(b"access-control-request-headers") or b""
        lines.append(b"access-control-allow-headers: %b\r\n" % (asked if policy.headers == b"*" else policy.headers))
    if policy.max_age:
        lines.append(b"access-control-max-age: %b\r\n" % policy.max_age)
    if policy.private_network and head.get(b"access-control-request-private-network") == b"true":
        lines.append(b"access-control-allow-private-network: true\r\n")
    return b"".join(lines)
