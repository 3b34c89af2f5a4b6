"""`upgrade_configs` of a connection manager or a route: which upgrades are allowed, by type.

The fields that are read here stand in the tables of the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mesh.proxy.compile.values import value_or
from mesh.proxy.fields import Place


def upgrades(configs: Iterable[Any], place: Place) -> Mapping[bytes, bool]:
    """Whether each type (in lower case) is allowed. Raises Refused."""
    allowed: dict[bytes, bool] = {}
    for index, config in enumerate(configs):
        name = config.upgrade_type.lower().encode()
        inside = place.at(f"upgrade_configs[{index}]")
        if not name or name in allowed:
            raise inside.refuse("a type of its own is required", "upgrade_type")
        allowed[name] = value_or(config, "enabled", True)
    return allowed


def ends_connect(configs: Iterable[Any]) -> bool:
    """Whether a route's CONNECT requests end here (`connect_config`)."""
    return any(config.upgrade_type.lower() == "connect" and config.HasField("connect_config") for config in configs)
