"""From the bootstrap's `cluster_manager.upstream_bind_config` to what every upstream socket is given."""

from __future__ import annotations

from typing import Any

from envoy.config.bootstrap.v3.bootstrap_pb2 import ClusterManager
from envoy.config.core.v3.address_pb2 import BindConfig
from envoy.config.core.v3.socket_option_pb2 import SocketOption as Option

from mesh.proxy.fields import Place, check
from mesh.proxy.upstream.dialling import SocketOption

SUPPORTED = {
    ClusterManager.DESCRIPTOR.full_name: frozenset(("upstream_bind_config",)),
    BindConfig.DESCRIPTOR.full_name: frozenset(("socket_options",)),
    Option.DESCRIPTOR.full_name: frozenset(("description", "level", "name", "int_value", "state")),
}


def compile_bind_config(manager: Any, place: Place) -> tuple[SocketOption, ...]:
    """Raises Refused. Sockets are not listened on, so an option of another state than PREBIND would never be set."""
    check(manager, SUPPORTED, place)
    found = []
    for index, option in enumerate(manager.upstream_bind_config.socket_options):
        if option.state != Option.STATE_PREBIND:
            inside = place.at(f"upstream_bind_config.socket_options[{index}]")
            raise inside.refuse("only STATE_PREBIND is supported by this sidecar", "state")
        found.append((option.level, option.name, option.int_value))
    return tuple(found)
