"""Role-based access control of requests (`envoy.filters.http.rbac`), what AuthorizationPolicy compiles to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC, RBACPerRoute

from mesh.proxy.compile.rbac import HTTP, compile_rules
from mesh.proxy.compile.values import unpack
from mesh.proxy.fields import OPAQUE, Place, check
from mesh.proxy.observe.counters import NamedCounters
from mesh.proxy.policy.rbac import LOG, Control, Counts, denial

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Steps, Surroundings
    from mesh.proxy.http.stream import Stream

_H = "envoy.extensions.filters.http.rbac.v3."
SUPPORTED = {
    _H + "RBAC": frozenset(
        ("rules", "rules_stat_prefix", "shadow_rules", "shadow_rules_stat_prefix", "track_per_rule_stats")
    ),
    _H + "RBACPerRoute": frozenset(("rbac",)),
    "envoy.config.rbac.v3.RBAC": OPAQUE,  # compiled with its own table
}
_NAMESPACE = "envoy.filters.http.rbac"
_BODY = b"RBAC: access denied"


def add(steps: Steps, packed: Any, around: Surroundings, place: Place) -> None:
    """Add the filter's step. A route's own rules replace the filter's."""
    config = unpack(packed, RBAC, place)
    default = _control(config, place)
    tags = (("envoy.http_conn_manager_prefix", around.stat_prefix),)
    counters = around.stats.group(NamedCounters, f"http.{around.stat_prefix}.rbac", tags)
    counts = Counts(counters, config.rules_stat_prefix, config.shadow_rules_stat_prefix)
    name = steps.name

    def check_access(stream: Stream) -> bool:
        control: Control = stream.of_route(name) or default
        allowed, policy, told = control.judge(stream, counts)
        if told:
            stream.metadata.setdefault(_NAMESPACE, {}).update(told)
        if control.rules is not None and control.rules.action == LOG:
            stream.metadata.setdefault("envoy.common", {})["access_log_hint"] = bool(policy)
        if not allowed:
            stream.reply(403, _BODY, "", denial(policy))
        return not allowed

    steps.request.append(check_access)


def compile_route(packed: Any, place: Place) -> Control:
    """RBACPerRoute; without rules it switches the filter off. Raises Refused."""
    config = unpack(packed, RBACPerRoute, place)
    check(config, SUPPORTED, place)
    return _control(config.rbac, place.at("rbac"))


def _control(config: Any, place: Place) -> Control:
    check(config, SUPPORTED, place)
    return Control(
        rules=compile_rules(config.rules, HTTP, place.at("rules")) if config.HasField("rules") else None,
        shadow=(
            compile_rules(config.shadow_rules, HTTP, place.at("shadow_rules"))
            if config.HasField("shadow_rules")
            else None
        ),
        rules_prefix=config.rules_stat_prefix,
        shadow_prefix=config.shadow_rules_stat_prefix,
        tracks_policies=config.track_per_rule_stats,
    )
