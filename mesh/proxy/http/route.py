"""The compiled route table: which route a request takes, in declared order, first match wins.

Everything here is immutable and was decided by `compile`; a request only calls it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from mesh.proxy.http.hash_policy import HashKey
from mesh.proxy.http.retry import RetryPolicy
from mesh.proxy.http.route_index import RouteIndex
from mesh.proxy.http1.head import Head, RequestHead

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Switches
    from mesh.proxy.http.mirror import MirrorPolicy
    from mesh.proxy.http.stream import Stream
    from mesh.proxy.observe.tracing.tracer import RouteTracing
    from mesh.proxy.policy.rate_limits import RouteRateLimits

_PARAMETERS = re.compile(rb";[^/]*")
_QUESTION = 0x3F

PathMatch = Callable[[bytes], bool]
Condition = Callable[[RequestHead], bool]
Circumstance = Callable[["Stream"], bool]
Value = Callable[["Stream"], bytes]


class HeaderEdit:
    """Header additions and removals of one route, weighted cluster, virtual host and table together.

    `lines` are whole constant lines, appended as they are. `steps` are what needs a look at the message: formatted
    values and the append actions that depend on whether the header is there. Where none of `needles` is (see
    `Head.lacks`), `fresh` does the same as all of these: it only appends.
    """

    __slots__ = ("fresh", "lines", "needles", "removals", "steps")

    def __init__(
        self,
        removals: frozenset[bytes] = frozenset(),
        lines: tuple[bytes, ...] = (),
        steps: tuple[Callable[[Head, Stream], None], ...] = (),
        needles: tuple[bytes, ...] = (),
        fresh: tuple[Callable[[Head, Stream], None], ...] = (),
    ) -> None:
        self.removals = removals
        self.lines = lines
        self.steps = steps
        self.needles = needles
        self.fresh = fresh

    def apply(self, head: Head, stream: Stream) -> None:
        if self.needles and head.lacks(self.needles):
            for step in self.fresh:
                step(head, stream)
            return
        if self.removals:
            head.remove(self.removals)
        if self.lines:
            head.lines.extend(self.lines)
        for step in self.steps:
            step(head, stream)


@dataclass(frozen=True, slots=True)
class WeightedCluster:
    """Where a route forwards to. Its edits have those of the route, its virtual host and its table in them."""

    name: str
    weight: int
    request_edit: HeaderEdit | None = None
    response_edit: HeaderEdit | None = None
    host_rewrite: bytes | None = None
    filter_config: Mapping[str, Any] = field(default_factory=dict)
    switches: Switches | None = None  # of its filters, if anything is said of any


@dataclass(frozen=True, slots=True)
class Forward:
    """`RouteAction`: send it to a cluster: `only`, if there is no choice, or what `pick` finds.

    `timeout` 0 means none.
    """

    only: WeightedCluster | None
    pick: Callable[[Stream], WeightedCluster]
    names: frozenset[str]  # of the clusters that are known beforehand
    timeout: float = 15.0
    idle_timeout: float | None = None
    retry: RetryPolicy | None = None
    rewrite_path: Callable[[bytes], bytes] | None = None
    host_rewrite: Callable[[RequestHead], bytes | None] | None = None
    auto_host_rewrite: bool = False
    append_x_forwarded_host: bool = False
    no_cluster_status: int = 503
    is_high_priority: bool = False
    upgrades: Mapping[bytes, bool] = field(default_factory=dict)
    ends_connect: bool = False  # CONNECT goes on as TCP
    max_duration: Callable[[RequestHead, float], float] | None = None
    grpc_timeout: Callable[[RequestHead], float] | None = None
    expected_timeout: bytes | None = None  # the header line of `timeout`
    rewrites: bool = False  # whether host or path may change, by what stands above
    hash_key: HashKey | None = None
    mirrors: tuple[MirrorPolicy, ...] = ()


@dataclass(frozen=True, slots=True)
class Redirect:
    """`RedirectAction`: `location` makes the URL from the request."""

    status: int
    location: Callable[[RequestHead], bytes]


@dataclass(frozen=True, slots=True)
class DirectResponse:
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Route:
    """`Route`. `conditions` ask the head alone, `circumstances` whatever else is known of the stream.

    `response_edit` is for the replies of a route that does not forward.
    """

    name: str
    path: PathMatch
    conditions: tuple[Condition, ...]
    action: Forward | Redirect | DirectResponse
    response_edit: HeaderEdit | None = None
    filter_config: Mapping[str, Any] = field(default_factory=dict)
    switches: Switches | None = None  # of its filters, if anything is said of any
    buffer_limit: int | None = None
    counts_attempts: bool = False
    counts_attempts_in_response: bool = False
    circumstances: tuple[Circumstance, ...] = ()
    tracing: RouteTracing | None = None
    rate_limits: RouteRateLimits | None = None


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """`requires_tls` is empty, `EXTERNAL_ONLY` or `ALL`; `index` is there if the routes are many."""

    name: str
    routes: tuple[Route, ...]
    requires_tls: str = ""
    index: RouteIndex | None = None
    connects: tuple[Route, ...] = ()  # the routes for CONNECT, which has no path


class RouteTable:
    """`RouteConfiguration`: virtual hosts by domain; exact, then longest suffix, then longest prefix, then `*`."""

    __slots__ = ("_default", "_exact", "_is_for_all", "_prefixes", "_suffixes", "hosts", "name", "needed")

    def __init__(self, name: str, domains: Mapping[bytes, VirtualHost]) -> None:
        self.name = name
        self.needed: frozenset[str] = frozenset()  # clusters that must be there (`validate_clusters`)
        self.hosts = tuple({id(host): host for host in domains.values()}.values())
        self._default = domains.get(b"*")
        self._exact = {domain: host for domain, host in domains.items() if b"*" not in domain}
        wild = [(domain, host) for domain, host in domains.items() if b"*" in domain and domain != b"*"]
        self._suffixes = _by_length((domain[1:], host) for domain, host in wild if domain.startswith(b"*"))
        self._prefixes = _by_length((domain[:-1], host) for domain, host in wild if domain.endswith(b"*"))
        self._is_for_all = domains.keys() == {b"*"}

    def host_of(self, authority: bytes) -> VirtualHost | None:
        """The virtual host of an authority."""
        host = self._exact.get(authority)
        if host is not None:
            return host
        if self._is_for_all:
            return self._default
        authority = authority.lower()
        host = self._exact.get(authority)
        if host is not None:
            return host
        size = len(authority)
        for length, suffixes in self._suffixes:
            if size > length and (host := suffixes.get(authority[-length:])) is not None:
                return host
        for length, prefixes in self._prefixes:
            if size > length and (host := prefixes.get(authority[:length])) is not None:
                return host
        return self._default

    def match(self, stream: Stream) -> Route | None:
        """The first route that matches; None if no virtual host or no route does."""
        head = stream.head
        path = head.target
        if _QUESTION in path:
            path = path.partition(b"?")[0]
        return _first_match(self.host_of(head.authority), path, stream)


@dataclass(frozen=True, slots=True)
class Reading:
    """What of a request a RouteConfiguration reads in another way than plainly."""

    ignores_port: bool = False  # ignore_port_in_host_matching
    cuts_parameters: bool = False  # ignore_path_parameters_in_path_matching
    host_header: bytes | None = None  # vhost_header
    internal_only: frozenset[bytes] = frozenset()  # internal_only_headers


class ParticularRouteTable(RouteTable):
    """A table that reads requests in a way of its own, so that plain ones need not ask whether they do."""

    __slots__ = ("_reading",)

    def __init__(self, name: str, domains: Mapping[bytes, VirtualHost], reading: Reading) -> None:
        RouteTable.__init__(self, name, domains)
        self._reading = reading

    def match(self, stream: Stream) -> Route | None:
        head, reading = stream.head, self._reading
        if reading.internal_only and b"x-envoy-internal" not in head.marked:
            head.remove(reading.internal_only)
        authority = head.authority
        if reading.host_header is not None:
            value = head.get(reading.host_header)
            if value is None:
                return None
            authority = value
        if reading.ignores_port:
            authority = without_port(authority)
        path = head.target.partition(b"?")[0]
        if reading.cuts_parameters:
            path = _PARAMETERS.sub(b"", path)
        return _first_match(self.host_of(authority), path, stream)


def _first_connect(host: VirtualHost, stream: Stream) -> Route | None:
    for route in host.connects:
        if _all(route.conditions, stream.head) and _all(route.circumstances, stream):
            return route
    return None


def _first_match(host: VirtualHost | None, path: bytes, stream: Stream) -> Route | None:
    head = stream.head
    if host is None:
        return None
    if path[0] != 0x2F:  # `*` is a path to nowhere, and CONNECT has none
        return _first_connect(host, stream) if head.method == b"CONNECT" else None
    if host.requires_tls and _wants_tls(host, head):
        return _TO_TLS
    for route in host.routes if host.index is None else host.index.candidates(path):
        if (
            route.path(path)
            and (not route.conditions or _all(route.conditions, head))
            and (not route.circumstances or _all(route.circumstances, stream))
        ):
            return route
    return None


def _by_length(domains: Iterable[tuple[bytes, VirtualHost]]) -> tuple[tuple[int, Mapping[bytes, VirtualHost]], ...]:
    """By the length of what is not the wildcard, longest first."""
    found: dict[int, dict[bytes, VirtualHost]] = {}
    for text, host in domains:
        found.setdefault(len(text), {})[text] = host
    return tuple(sorted(found.items(), reverse=True))


def _wants_tls(host: VirtualHost, head: RequestHead) -> bool:
    if head.marked.get(b"x-forwarded-proto") == b"https":
        return False
    return host.requires_tls == "ALL" or b"x-envoy-internal" not in head.marked


def _to_tls(head: RequestHead) -> bytes:
    return b"https://%b%b" % (head.authority, head.target)


_TO_TLS = Route("", lambda path: True, (), Redirect(301, _to_tls))

_Asked = TypeVar("_Asked")


def _all(conditions: tuple[Callable[[_Asked], bool], ...], asked: _Asked) -> bool:
    for condition in conditions:  # noqa: SIM110 - a generator costs more than the loop
        if not condition(asked):
            return False
    return True


def without_port(authority: bytes) -> bytes:
    """`host:port` without the port; IPv6 brackets kept."""
    host, colon, port = authority.rpartition(b":")
    return host if colon and port.isdigit() else authority
