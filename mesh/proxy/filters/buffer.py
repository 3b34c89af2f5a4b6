"""Buffers whole requests before they go on (`envoy.filters.http.buffer`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envoy.extensions.filters.http.buffer.v3.buffer_pb2 import Buffer, BufferPerRoute

from mesh.proxy.compile.values import unpack
from mesh.proxy.fields import Place, check
from mesh.proxy.http.rescue import RequestTooLarge

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Steps, Surroundings
    from mesh.proxy.http.stream import Stream

_B = "envoy.extensions.filters.http.buffer.v3."
SUPPORTED = {
    _B + "Buffer": frozenset(("max_request_bytes",)),
    _B + "BufferPerRoute": frozenset(("disabled", "buffer")),
}


def add(steps: Steps, packed: Any, around: Surroundings, place: Place) -> None:
    """Add the filter's step. A route may have a limit of its own, or 0 to switch the filter off."""
    config = unpack(packed, Buffer, place)
    check(config, SUPPORTED, place)
    default, name, stats = _limit(config, place), steps.name, around.http_stats

    def hold(stream: Stream) -> bool:
        limit = stream.of_route(name)
        if limit is None:
            limit = default
        if not limit or not stream.has_body:
            return False

        def whole() -> bool:
            body = stream.request_body
            if len(body) > limit:
                stats.downstream_rq_too_large += 1
                stream.fail(RequestTooLarge())
                return True
            head = stream.head
            if b"content-length" not in head.marked:
                head.add(b"content-length", b"%d" % len(body))
            return False

        def then() -> None:
            if not whole():
                stream.go_on()

        return stream.collect_body(limit, then) or whole()

    steps.request.append(hold)


def compile_route(packed: Any, place: Place) -> int:
    """The most bytes of a route's requests; 0 switches the filter off. Raises Refused."""
    config = unpack(packed, BufferPerRoute, place)
    check(config, SUPPORTED, place)
    if config.WhichOneof("override") == "buffer":
        return _limit(config.buffer, place.at("buffer"))
    if not config.disabled:
        raise place.refuse("either disabled or a buffer is required", "disabled")
    return 0


def _limit(config: Any, place: Place) -> int:
    if not config.max_request_bytes.value:
        raise place.refuse("must be greater than 0", "max_request_bytes")
    return int(config.max_request_bytes.value)
