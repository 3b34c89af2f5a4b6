"""RequestMirrorPolicy messages to `mirror.MirrorPolicy`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mesh.proxy.compile.headers import header_edit
from mesh.proxy.compile.matchers import fraction_match
from mesh.proxy.fields import Place
from mesh.proxy.http.mirror import MirrorPolicy
from mesh.proxy.http.route import Circumstance

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream

SUPPORTED = {
    "envoy.config.route.v3.RouteAction.RequestMirrorPolicy": frozenset(
        ("cluster", "cluster_header", "runtime_fraction", "trace_sampled", "disable_shadow_host_suffix_append",
         "request_headers_mutations", "host_rewrite_literal")
    ),
    "envoy.config.common.mutation_rules.v3.HeaderMutation": frozenset(("remove", "append")),
}  # fmt: skip


def mirror_policies(policies: Any, place: Place) -> tuple[MirrorPolicy, ...]:
    """Raises Refused."""
    return tuple(_policy(policy, place.at(f"request_mirror_policies[{i}]")) for i, policy in enumerate(policies))


def _policy(policy: Any, place: Place) -> MirrorPolicy:
    if policy.trace_sampled.value:
        raise place.refuse("mirrored requests are not traced: true is not supported by this sidecar", "trace_sampled")
    if bool(policy.cluster) == bool(policy.cluster_header):
        raise place.refuse("either cluster or cluster_header is required")
    draws: Circumstance = _always
    if policy.HasField("runtime_fraction"):
        draws = fraction_match(policy.runtime_fraction.default_value)
    inside = place.at("request_headers_mutations")
    return MirrorPolicy(
        cluster=_cluster(policy),
        draws=draws,
        appends_suffix=not policy.disable_shadow_host_suffix_append,
        host=policy.host_rewrite_literal.encode() or None,
        edit=header_edit(
            ([each.append] if each.HasField("append") else [], [each.remove] if each.remove else [], inside)
            for each in policy.request_headers_mutations
        ),
    )


def _always(stream: Stream) -> bool:
    return True


def _cluster(policy: Any) -> Callable[[Stream], str]:
    name = policy.cluster
    if name:
        return lambda stream: name
    header = policy.cluster_header.lower().encode()
    return lambda stream: (stream.head.get(header) or b"").decode("latin-1")
