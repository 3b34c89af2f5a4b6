"""What a filter is to a request: steps that were decided when the configuration was compiled.

A filter's module has `add(steps, packed, around, place)`, which unpacks the configuration and appends its steps, and
`compile_route(packed, place)` for what a virtual host, route or weighted cluster says of it, which `Stream.of_route`
then finds under the filter's name. How a step works with its stream:

- A request step answers whether the request stops there: it was answered (`stream.reply`), or it is held
  (`stream.hold`) until what it waits for calls `stream.go_on`, or replies. For a time alone there is `stream.park`.
- `stream.collect_body` holds a request until its body is there.
- A response step sees `stream.response_head` before it is sent, also that of a local reply; a finish step the stream
  when all is over.
- What filters tell each other, and the access log, is in `stream.metadata` (Envoy's dynamic metadata).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from envoy.config.core.v3.base_pb2 import Node

from mesh.proxy.observe.downstream_counters import HttpStats
from mesh.proxy.observe.stats import Stats

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream

RequestStep = Callable[["Stream"], bool]
Step = Callable[["Stream"], None]
Switches = Mapping[str, bool]


@dataclass(slots=True)
class Steps:
    """One filter's steps: before the route acts, on the response's head, at the end. `name` is the one that routes
    know it by; `disabled` filters are for the routes that switch them on. The last two are the router's.
    """

    name: str = ""
    disabled: bool = False
    request: list[RequestStep] = field(default_factory=list)
    response: list[Step] = field(default_factory=list)
    finish: list[Step] = field(default_factory=list)
    is_router: bool = False
    suppresses_envoy_headers: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a filter may need to know of where it stands. `stat_prefix` is the connection manager's."""

    node: Node
    is_inbound: bool
    http_stats: HttpStats
    stats: Stats
    stat_prefix: str = ""


def chain(
    filters: Iterable[Steps], switches: Switches
) -> tuple[tuple[RequestStep, ...], tuple[Step, ...], tuple[Step, ...]]:
    """Request, response and finish steps of the filters that are on; `switches` say of a route which are disabled.

    Responses pass the filters in the opposite order.
    """
    on = [each for each in filters if not switches.get(each.name, each.disabled)]
    return (
        tuple(step for each in on for step in each.request),
        tuple(step for each in reversed(on) for step in each.response),
        tuple(step for each in on for step in each.finish),
    )
