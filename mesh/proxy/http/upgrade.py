"""Upgrades to another protocol: who may ask for one, and the tunnel that an agreement opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.proxy.http1.upgrade import is_agreement, restore

if TYPE_CHECKING:
    from mesh.proxy.http.relay import Relay
    from mesh.proxy.http.stream import Stream
    from mesh.proxy.http1.head import ResponseHead

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


def answered(relay: Relay, head: ResponseHead, payload: bytes, done: bool) -> tuple[bytes, bool]:
    """Open the tunnel, if this agrees to it. Otherwise it is a response, of which Envoy passes on the head alone if
    it is none of an error.
    """
    was_awaited, relay.awaits_handshake = relay.awaits_handshake, False
    if not done and is_agreement(relay.upgrade, head.status):
        relay.is_tunnel = True
        restore(head)
        relay.stop_route_timeout()
        assert relay.upstream is not None
        if was_awaited and relay.body is not None:
            relay.upstream.send_payload(b"".join(relay.body.kept or ()), relay.request_done)
    elif was_awaited and head.status < 400 and head.status != 101:
        relay.details = "websocket_handshake_unsuccessful"
        if not done:
            relay.abandon_upstream()
        head.remove((b"content-length",))
        return b"", True
    return payload, done
