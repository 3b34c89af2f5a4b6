"""The compiled route table: which route a request takes, in declared order, first match wins.

Everything here is immutable and was decided by `compile`; a request only calls it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mesh.proxy.http1.head import Head, RequestHead
from mesh.proxy.retry import RetryPolicy

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Switches
    from mesh.proxy.stream import Stream

PathMatch = Callable[[bytes], bool]
Condition = Callable[[RequestHead], bool]
Value = Callable[["Stream"], bytes]


class HeaderEdit:
    """Header additions and removals of one route, weighted cluster, virtual host and table together.

    `lines` are whole constant lines, appended as they are. `steps` are what needs a look at the message: formatted
    values and the append actions that depend on whether the header is there.
    """

    __slots__ = ("lines", "removals", "steps")

    def __init__(
        self,
        removals: frozenset[bytes] = frozenset(),
        lines: tuple[bytes, ...] = (),
        steps: tuple[Callable[[Head, Stream], None], ...] = (),
    ) -> None:
        self.removals = removals
        self.lines = lines
        self.steps = steps

    def apply(self, head: Head, stream: Stream) -> None:
        if self.removals:
            head.remove(self.removals)
        if self.lines:
            head.extend(self.lines)
        for step in self.steps:
            step(head, stream)


@dataclass(frozen=True, slots=True)
class WeightedCluster:
    name: str
    weight: int
    request_edit: HeaderEdit | None = None
    response_edit: HeaderEdit | None = None
    host_rewrite: bytes | None = None
    filter_config: Mapping[str, Any] = field(default_factory=dict)
    switches: Switches | None = None  # of its filters, if anything is said of any


@dataclass(frozen=True, slots=True)
class Forward:
    """`RouteAction`: send it to a cluster. `timeout` 0 means none."""

    clusters: tuple[WeightedCluster, ...]
    total_weight: int = 0
    header_name: bytes | None = None
    timeout: float = 15.0
    idle_timeout: float | None = None
    retry: RetryPolicy | None = None
    rewrite_path: Callable[[bytes], bytes] | None = None
    host_rewrite: bytes | None = None
    auto_host_rewrite: bool = False
    host_rewrite_header: bytes | None = None
    append_x_forwarded_host: bool = False
    no_cluster_status: int = 503
    expected_timeout: bytes | None = None  # the header line of `timeout`
    rewrites: bool = False  # whether host or path may change, by what stands above

    def pick(self, head: Head) -> WeightedCluster:
        """The cluster for this request, by weight: random, or predictable from the header that `header_name` names."""
        if len(self.clusters) == 1:
            return self.clusters[0]
        value = None
        if self.header_name is not None:
            text = head.get(self.header_name)
            # Envoy takes an unsigned 64-bit decimal and falls back to chance for anything else.
            if text and text.isdigit() and (number := int(text)) < 1 << 64:
                value = number % self.total_weight
        if value is None:
            value = int(random.random() * self.total_weight)
        for cluster in self.clusters:
            value -= cluster.weight
            if value < 0:
                return cluster
        return self.clusters[-1]


@dataclass(frozen=True, slots=True)
class Redirect:
    """`RedirectAction`: `location` makes the URL from the request."""

    status: int
    location: Callable[[RequestHead, bytes], bytes]


@dataclass(frozen=True, slots=True)
class DirectResponse:
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Route:
    name: str
    path: PathMatch
    conditions: tuple[Condition, ...]
    action: Forward | Redirect | DirectResponse
    request_edit: HeaderEdit | None = None
    response_edit: HeaderEdit | None = None
    filter_config: Mapping[str, Any] = field(default_factory=dict)
    switches: Switches | None = None  # of its filters, if anything is said of any
    buffer_limit: int | None = None
    counts_attempts: bool = False
    counts_attempts_in_response: bool = False


@dataclass(frozen=True, slots=True)
class VirtualHost:
    name: str
    routes: tuple[Route, ...]
    requires_tls: bool = False


class RouteTable:
    """`RouteConfiguration`: virtual hosts by domain; exact, then longest suffix, then longest prefix, then `*`."""

    __slots__ = ("_default", "_exact", "_ignores_port", "_prefixes", "_suffixes", "hosts", "name")

    def __init__(self, name: str, domains: Mapping[bytes, VirtualHost], ignores_port: bool = False) -> None:
        self.name = name
        self.hosts = tuple({id(host): host for host in domains.values()}.values())
        self._ignores_port = ignores_port
        self._default = domains.get(b"*")
        self._exact = {domain: host for domain, host in domains.items() if b"*" not in domain}
        wild = sorted(((d, h) for d, h in domains.items() if b"*" in d and d != b"*"), key=lambda item: -len(item[0]))
        self._suffixes = tuple((domain[1:], host) for domain, host in wild if domain.startswith(b"*"))
        self._prefixes = tuple((domain[:-1], host) for domain, host in wild if domain.endswith(b"*"))

    def host_of(self, authority: bytes) -> VirtualHost | None:
        """The virtual host of an authority."""
        if self._ignores_port:
            authority = without_port(authority)
        host = self._exact.get(authority)
        if host is not None:
            return host
        authority = authority.lower()
        host = self._exact.get(authority)
        if host is not None:
            return host
        for suffix, host in self._suffixes:
            if len(authority) > len(suffix) and authority.endswith(suffix):
                return host
        for prefix, host in self._prefixes:
            if len(authority) > len(prefix) and authority.startswith(prefix):
                return host
        return self._default

    def match(self, head: RequestHead) -> Route | None:
        """The first route that matches; None if no virtual host or no route does."""
        host = self.host_of(head.authority)
        if host is None or head.target[0] != 0x2F:  # `*` and CONNECT's authority are paths to nowhere
            return None
        if host.requires_tls and head.marked.get(b"x-forwarded-proto") != b"https":
            return _TO_TLS
        path = head.target.partition(b"?")[0]
        for route in host.routes:
            if route.path(path) and (not route.conditions or _all(route.conditions, head)):
                return route
        return None


def _to_tls(head: RequestHead, scheme: bytes) -> bytes:
    return b"https://%b%b" % (head.authority, head.target)


_TO_TLS = Route("", lambda path: True, (), Redirect(301, _to_tls))


def _all(conditions: tuple[Condition, ...], head: RequestHead) -> bool:
    for condition in conditions:  # noqa: SIM110 - a generator costs more than the loop
        if not condition(head):
            return False
    return True


def without_port(authority: bytes) -> bytes:
    """`host:port` without the port; IPv6 brackets kept."""
    host, colon, port = authority.rpartition(b":")
    return host if colon and port.isdigit() else authority
