"""`upgrade_configs` of a connection manager or a route: which upgrades are allowed, by type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mesh.proxy.compile.values import value_or
from mesh.proxy.fields import Place

SUPPORTED = {
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig": frozenset(
        ("upgrade_type", "enabled")
    ),
    "envoy.config.route.v3.RouteAction.UpgradeConfig": frozenset(("upgrade_type", "enabled")),
}


def upgrades(configs: Iterable[Any], place: Place) -> Mapping[bytes, bool]:
    """Whether each type (in lower case) is allowed. Raises Refused."""
    allowed: dict[bytes, bool] = {}
    for index, config in enumerate(configs):
        name = config.upgrade_type.lower().encode()
        inside = place.at(f"upgrade_configs[{index}]")
        if name == b"connect":
            raise inside.refuse("CONNECT is not supported by this sidecar", "upgrade_type")
        if not name or name in allowed:
            raise inside.refuse("a type of its own is required", "upgrade_type")
        allowed[name] = value_or(config, "enabled", True)
    return allowed
