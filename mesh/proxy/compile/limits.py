"""From the bootstrap's overload manager and runtime to what they limit."""

from __future__ import annotations

import re
from typing import Any

from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.extensions.resource_monitors.downstream_connections.v3.downstream_connections_pb2 import (
    DownstreamConnectionsConfig,
)

from mesh.proxy.downstream.connection_limits import ConnectionLimits
from mesh.proxy.fields import OPAQUE, Place, check

SUPPORTED = {
    "envoy.config.overload.v3.OverloadManager": frozenset(("refresh_interval", "resource_monitors")),
    "envoy.config.overload.v3.ResourceMonitor": frozenset(("name", "typed_config")),
    DownstreamConnectionsConfig.DESCRIPTOR.full_name: frozenset(("max_active_downstream_connections",)),
    "envoy.config.bootstrap.v3.LayeredRuntime": frozenset(("layers",)),
    "envoy.config.bootstrap.v3.RuntimeLayer": frozenset(("name", "static_layer")),
    "google.protobuf.Struct": OPAQUE,
}
_OF_LISTENER = re.compile(r"envoy\.resource_limits\.listener\.(.+)\.connection_limit")


def compile_limits(bootstrap: Bootstrap, place: Place) -> ConnectionLimits:
    """Raises Refused."""
    return ConnectionLimits(
        _most(bootstrap.overload_manager, place.at("overload_manager")),
        _of_listeners(bootstrap.layered_runtime, place.at("layered_runtime")),
    )


def _most(manager: Any, place: Place) -> int | None:
    check(manager, SUPPORTED, place)
    most = None
    for index, monitor in enumerate(manager.resource_monitors):
        inside = place.at(f"resource_monitors[{index}]")
        config = DownstreamConnectionsConfig()
        if not monitor.typed_config.Unpack(config):
            raise inside.refuse(f"resource monitor {monitor.name} is not supported by this sidecar")
        check(config, SUPPORTED, inside.at("typed_config"))
        most = config.max_active_downstream_connections
    return most


def _of_listeners(runtime: Any, place: Place) -> dict[str, int]:
    check(runtime, SUPPORTED, place)
    limits: dict[str, int] = {}
    for index, layer in enumerate(runtime.layers):
        inside = place.at(f"layers[{index}].static_layer")
        for key, value in _flat(layer.static_layer):
            found = _OF_LISTENER.fullmatch(key)
            if found is None:
                raise inside.refuse(f"runtime key {key} is not supported by this sidecar")
            if not isinstance(value, float):
                raise inside.refuse(f"{key}: not a number")
            limits[found[1]] = int(value)
    return limits


def _flat(layer: Any, before: str = "") -> list[tuple[str, Any]]:
    """Keys with dots and their values; a layer may spell the dots as nested mappings."""
    entries = []
    for key, value in layer.items():
        name = f"{before}{key}"
        entries += _flat(value, f"{name}.") if hasattr(value, "items") else [(name, value)]
    return entries
