"""A route's CORS policy as configuration of Envoy's CORS filter."""

from __future__ import annotations

from envoy.config.core.v3.base_pb2 import RuntimeFractionalPercent
from envoy.extensions.filters.http.cors.v3.cors_pb2 import CorsPolicy
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from mesh.api import virtual_service as api
from mesh.xds.compile.matching import string_matcher
from mesh.xds.compile.messages import percentage


def cors_policy(policy: api.CorsPolicy) -> CorsPolicy:
    """Where `unmatchedPreflights` is not said, a preflight of a stranger is forwarded, as Envoy has it."""
    result = CorsPolicy(
        allow_origin_string_match=_origins(policy),
        allow_methods=",".join(policy.allow_methods),
        allow_headers=",".join(policy.allow_headers),
        expose_headers=",".join(policy.expose_headers),
        filter_enabled=RuntimeFractionalPercent(default_value=percentage(100)),
    )
    if policy.max_age is not None:
        result.max_age = str(int(policy.max_age.total_seconds()))
    if policy.allow_credentials is not None:
        result.allow_credentials.value = policy.allow_credentials
    if policy.unmatched_preflights is not api.UnmatchedPreflights.UNSPECIFIED:
        result.forward_not_matching_preflights.value = policy.unmatched_preflights is api.UnmatchedPreflights.FORWARD
    return result


def _origins(policy: api.CorsPolicy) -> list[StringMatcher]:
    """The older `allowOrigin` counts only where there is no `allowOrigins`."""
    if policy.allow_origins:
        return [found for match in policy.allow_origins if (found := string_matcher(match)) is not None]
    return [StringMatcher(exact=origin) for origin in policy.allow_origin]
