"""What is limited: descriptors that the actions of routes make of a request, and buckets of tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream

Entry = tuple[str, str]
Descriptor = tuple[Entry, ...]
# An entry of a descriptor; empty to go without it, None to make no descriptor at all.
Action = Callable[["Stream"], "Entry | tuple[()] | None"]

OVERRIDE, INCLUDE, IGNORE = range(3)


def source_cluster(stream: Stream) -> Entry | tuple[()] | None:
    """The action of that name. Routes do not know who we are, so whoever describes a request says it."""
    return None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A compiled `envoy.config.route.v3.RateLimit`."""

    stage: int
    actions: tuple[Action, ...]
    hits: int | None = None

    def describe(self, stream: Stream, source: str) -> Descriptor | None:
        """The descriptor of this request, None if one of its entries cannot be made. `source` is the node's cluster."""
        entries: list[Entry] = []
        for action in self.actions:
            entry = ("source_cluster", source) if action is source_cluster else action(stream)
            if entry is None:
                return None
            if entry:
                entries.append(entry)
        return tuple(entries) or None


@dataclass(frozen=True, slots=True)
class RouteRateLimits:
    """Those of a route and of its virtual host."""

    own: tuple[RateLimit, ...]
    of_host: tuple[RateLimit, ...]
    includes_host: bool

    def applicable(self, host_option: int) -> Iterator[RateLimit]:
        """Which count for the route; `host_option` is the filter's, unless the route includes its host's."""
        yield from self.own
        option = INCLUDE if self.includes_host else host_option
        if option == INCLUDE or (option == OVERRIDE and not self.own):
            yield from self.of_host


def descriptors(
    stream: Stream, source: str, stage: int, host_option: int, filters_own: Iterable[RateLimit]
) -> list[tuple[Descriptor, int | None]]:
    """What the request counts as, each with the hits that it adds; the filter's own limits stand for the routes'."""
    applicable = filters_own
    if not filters_own:
        route = stream.route
        if route is None or route.rate_limits is None:
            return []
        applicable = route.rate_limits.applicable(host_option)
    made = ((limit.describe(stream, source), limit.hits) for limit in applicable if limit.stage == stage)
    return [(descriptor, hits) for descriptor, hits in made if descriptor is not None]


class TokenBucket:
    """Holds `most` tokens and gains `rate` of them a second."""

    __slots__ = ("_at", "_tokens", "most", "rate")

    def __init__(self, most: int, rate: float) -> None:
        self.most = most
        self.rate = rate
        self._tokens = float(most)
        self._at = time.monotonic()

    def take(self, count: int = 1) -> bool:
        """Whether there were so many tokens, which are then gone."""
        now = time.monotonic()
        tokens = min(self._tokens + (now - self._at) * self.rate, self.most)
        self._at = now
        if tokens < count:
            self._tokens = tokens
            return False
        self._tokens = tokens - count
        return True

    @property
    def remaining(self) -> int:
        """Whole tokens left when they were last taken."""
        return int(self._tokens)

    @property
    def until_next(self) -> int:
        """Whole seconds until there is one token more than none."""
        missing = 1 - self._tokens
        return int(missing / self.rate) + (missing % self.rate > 0) if missing > 0 else 0
