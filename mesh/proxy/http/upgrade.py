"""Who may ask for an upgrade to another protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream

WEBSOCKET = b"websocket"


def admit(stream: Stream) -> bool:
    """Whether the route allows the upgrade, or else the connection manager; counts either outcome."""
    asked, config, route = stream.upgrade, stream.config, stream.route
    of_route = getattr(route.action, "upgrades", {}) if route is not None else {}
    if route is None or of_route.get(asked, config.upgrades.get(asked, False)):
        config.stats.downstream_cx_upgrades_total += 1
        config.stats.downstream_cx_upgrades_active += 1
        return True
    config.stats.downstream_rq_ws_on_non_ws_route += 1
    stream.upgrade = b""
    return False
