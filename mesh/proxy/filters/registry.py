"""The HTTP filters that this sidecar knows, by their configuration's type, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from envoy.config.core.v3.base_pb2 import Node
from envoy.config.route.v3.route_components_pb2 import FilterConfig
from envoy.extensions.filters.http.cors.v3.cors_pb2 import Cors, CorsPolicy
from envoy.extensions.filters.http.router.v3.router_pb2 import Router

from mesh.proxy.counters import HttpStats
from mesh.proxy.fields import Place, Supported, check
from mesh.proxy.filters import fault, istio_stats, metadata_exchange
from mesh.proxy.stats import Stats

if TYPE_CHECKING:
    from mesh.proxy.stream import Stream

Step = Callable[["Stream"], None]


@dataclass(slots=True)
class Steps:
    """What a chain's filters do, in order: before the route acts, on the response's head, at the end.

    A request step answers whether the request stops there: because it was answered, or parked until it is resumed.
    """

    request: list[Callable[[Stream], bool]] = field(default_factory=list)
    response: list[Step] = field(default_factory=list)
    finish: list[Step] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a filter may need to know of where it stands."""

    node: Node
    is_inbound: bool
    http_stats: HttpStats
    stats: Stats


_TYPED_STRUCTS = ("xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct")
_ROUTER: Supported = {"envoy.extensions.filters.http.router.v3.Router": frozenset()}


def add_filter(steps: Steps, config: Any, around: Surroundings, place: Place) -> bool:
    """Add one HttpFilter's steps; True if it is the router, which must be the last. Raises Refused."""
    kind = config.typed_config.TypeName()
    if kind == Router.DESCRIPTOR.full_name:
        router = Router()
        config.typed_config.Unpack(router)
        check(router, _ROUTER, place.at("typed_config"))
        return True
    if config.disabled:
        return False
    if kind == Cors.DESCRIPTOR.full_name:
        return False  # does nothing until a route has a policy, and those are refused
    if kind == fault.TYPE:
        fault.add(steps, config.typed_config, config.name, around.http_stats, place.at("typed_config"))
    elif kind in _TYPED_STRUCTS and config.name == metadata_exchange.NAME:
        metadata_exchange.add(steps, around.node, around.is_inbound)
    elif kind in _TYPED_STRUCTS and config.name == istio_stats.NAME:
        istio_stats.add(steps, around.node, around.is_inbound, around.stats)
    elif not config.is_optional:
        raise place.refuse(f"HTTP filter {config.name} ({kind or 'no typed_config'}) is not supported by this sidecar")
    return False


def per_route(configs: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
    """Compile `typed_per_filter_config`, by filter name. Raises Refused."""
    compiled: dict[str, Any] = {}
    for name, packed in configs.items():
        inside = place.at(f"typed_per_filter_config[{name}]")
        wrapper = FilterConfig()
        optional = False
        if packed.Is(FilterConfig.DESCRIPTOR):
            packed.Unpack(wrapper)
            packed, optional = wrapper.config, wrapper.is_optional
            if wrapper.disabled:
                raise inside.refuse("not supported by this sidecar", "disabled")
        kind = packed.TypeName()
        if kind == fault.TYPE:
            compiled[name] = fault.compile_policy(packed, inside)
        elif kind == CorsPolicy.DESCRIPTOR.full_name or not optional:
            raise inside.refuse(f"{kind} is not supported by this sidecar")
    return compiled
