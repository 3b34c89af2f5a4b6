"""The HTTP filters that this sidecar knows, by their configuration's type, and what becomes of the others."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from envoy.config.route.v3.route_components_pb2 import FilterConfig

from mesh.proxy.fields import Place
from mesh.proxy.filters import istio_stats, metadata_exchange
from mesh.proxy.filters.steps import Steps, Surroundings, Switches

_F = "envoy.extensions.filters.http."
# Modules by the type of what configures them, imported when a configuration first names one: each brings messages of
# its own, some a library. `add` takes the chain's configuration, `compile_route` a route's.
FILTERS_OF_CHAINS: Mapping[str, str] = {
    _F + "buffer.v3.Buffer": "buffer",
    _F + "cors.v3.Cors": "cors",
    _F + "ext_authz.v3.ExtAuthz": "ext_authz",
    _F + "fault.v3.HTTPFault": "fault",
    _F + "jwt_authn.v3.JwtAuthentication": "jwt_authn",
    _F + "local_ratelimit.v3.LocalRateLimit": "local_ratelimit",
    _F + "ratelimit.v3.RateLimit": "ratelimit",
    _F + "router.v3.Router": "router",
    _F + "rbac.v3.RBAC": "rbac",
}
FILTERS_OF_ROUTES: Mapping[str, str] = {
    _F + "buffer.v3.BufferPerRoute": "buffer",
    _F + "cors.v3.CorsPolicy": "cors",
    _F + "ext_authz.v3.ExtAuthzPerRoute": "ext_authz",
    _F + "fault.v3.HTTPFault": "fault",
    _F + "jwt_authn.v3.PerRouteConfig": "jwt_authn",
    _F + "local_ratelimit.v3.LocalRateLimit": "local_ratelimit",
    _F + "ratelimit.v3.RateLimitPerRoute": "ratelimit",
    _F + "rbac.v3.RBACPerRoute": "rbac",
}
_OURS: Mapping[str, str] = {"meshdrill.upstream_fault": "upstream_fault"}  # by name: all are TypedStructs
TYPED_STRUCTS = ("xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct")


def compile_filter(config: Any, around: Surroundings, place: Place) -> Steps:
    """One HttpFilter. Raises Refused."""
    kind = config.typed_config.TypeName()
    inside = place.at("typed_config")
    steps = Steps(config.name, config.disabled)
    if kind in FILTERS_OF_CHAINS:
        _module(FILTERS_OF_CHAINS[kind]).add(steps, config.typed_config, around, inside)
    elif kind in TYPED_STRUCTS and config.name == metadata_exchange.NAME:
        metadata_exchange.add(steps, around.node, around.is_inbound)
    elif kind in TYPED_STRUCTS and config.name == istio_stats.NAME:
        istio_stats.add(steps, config.typed_config, around, inside)
    elif kind in TYPED_STRUCTS and config.name in _OURS:
        _module(_OURS[config.name]).add(steps, config.typed_config, around, inside)
    elif not config.is_optional:
        raise place.refuse(f"HTTP filter {config.name} ({kind or 'no typed_config'}) is not supported by this sidecar")
    return steps


def per_route(configs: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
    """Compile `typed_per_filter_config`, by filter name. Raises Refused."""
    compiled: dict[str, Any] = {}
    for name, packed in configs.items():
        inside = place.at(f"typed_per_filter_config[{name}]")
        optional = False
        if packed.Is(FilterConfig.DESCRIPTOR):
            wrapper = FilterConfig()
            packed.Unpack(wrapper)
            packed, optional = wrapper.config, wrapper.is_optional
            if not packed.type_url:
                continue  # it is there for its switch alone
        kind = packed.TypeName()
        if kind in FILTERS_OF_ROUTES:
            compiled[name] = _module(FILTERS_OF_ROUTES[kind]).compile_route(packed, inside)
        elif kind in TYPED_STRUCTS and name in _OURS:
            compiled[name] = _module(_OURS[name]).compile_route(packed, inside)
        elif not optional:
            raise inside.refuse(f"{kind} is not supported by this sidecar")
    return compiled


def merged(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> Mapping[str, Any]:
    """What two levels of `typed_per_filter_config` say together: the inner one stands, unless it can be laid `over` the
    outer one.
    """
    both = {**outer, **inner}
    for name in outer.keys() & inner.keys():
        if hasattr(inner[name], "over"):
            both[name] = inner[name].over(outer[name])
    return both


def switches(levels: Iterable[Mapping[str, Any]]) -> Switches:
    """Which filters the levels of `typed_per_filter_config`, the least specific first, switch off (true) or on.

    As in Envoy, whatever is said of a filter that is not `disabled` switches it on.
    """
    found: dict[str, bool] = {}
    for configs in levels:
        for name, packed in configs.items():
            wrapper = FilterConfig()
            found[name] = packed.Is(FilterConfig.DESCRIPTOR) and packed.Unpack(wrapper) and wrapper.disabled
    return found


def _module(name: str) -> Any:
    return importlib.import_module(f"mesh.proxy.filters.{name}")
