"""A compiled HttpConnectionManager: what it was told, and what it says to and about a request."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from mesh.proxy.filters.steps import RequestStep, Step, Steps, Switches, chain
from mesh.proxy.http.local_replies import LocalReplies
from mesh.proxy.http.origin import Mark, client_of, mark_scheme
from mesh.proxy.http.preparation import Prepare
from mesh.proxy.http.response_marks import ResponseMark
from mesh.proxy.http1.head import Head, RequestHead
from mesh.proxy.http2.options import Http2Options
from mesh.proxy.http2.stats import Http2Stats
from mesh.proxy.observe.downstream_counters import HttpStats
from mesh.proxy.upstream.keepalive import KeepaliveConfig

if TYPE_CHECKING:
    from mesh.proxy.http.codec import ResponseEncoder
    from mesh.proxy.http.route import RouteTable

Codec = Literal["AUTO", "HTTP1", "HTTP2"]
_MAX_VARIANTS = 256


@dataclass(frozen=True, slots=True)
class ClientAddress:
    """Where the client's address stands: at a `place` of x-forwarded-for, counted from its end by 1, or in a header of
    its own. With neither it is the connection's.
    """

    place: int = 0
    header: bytes = b""

    def of(self, head: RequestHead) -> str | None:
        """It, without a port; None if it is not there."""
        if self.header:
            return client_of(head.get(self.header) or b"", 1)
        forwarded = head.marked.get(b"x-forwarded-for") if self.place else None
        return None if forwarded is None else client_of(forwarded, self.place)


@dataclass(slots=True, eq=False)
class HttpConfig:
    """A compiled HttpConnectionManager. Times in seconds; 0 means none."""

    stats: HttpStats
    table: RouteTable | None
    route_name: str
    request_steps: tuple[RequestStep, ...]
    response_steps: tuple[Step, ...]
    finish_steps: tuple[Step, ...]
    server_line: bytes = b"server: envoy"
    server_transformation: str = "OVERWRITE"
    use_remote_address: bool = False
    client_address: ClientAddress = ClientAddress(1)
    mark_origin: Mark = mark_scheme
    sanitizes_client_cert: bool = True
    cleans_always: bool = False  # there is something to do even where no header asks for it
    generate_request_id: bool = True
    preserve_external_request_id: bool = False
    prepare: tuple[Prepare, ...] = ()
    response_marks: tuple[ResponseMark, ...] = ()
    idle_timeout: float = 3600.0
    stream_idle_timeout: float = 300.0
    cuts_off: bool = False  # one of the next two is set
    request_timeout: float = 0.0
    max_stream_duration: float = 0.0
    request_headers_timeout: float = 0.0
    max_connection_duration: float = 0.0
    max_requests: int = 0  # on one connection; 0: no limit
    accepts_http_10: bool = False
    http_10_host: bytes = b""
    header_case: Callable[[list[bytes]], list[bytes]] | None = None
    local_replies: LocalReplies | None = None
    buffer_limit: int = 1024 * 1024
    write_limit: int = 0  # bytes towards a client that reads slowly; 0: the transport's own, which is lower
    max_head: int = 60 * 1024
    max_headers: int = 100
    proxy_100_continue: bool = False
    suppresses_envoy_headers: bool = False  # of the router's own
    upgrades: Mapping[bytes, bool] = field(default_factory=dict)
    max_trailers: int = 0  # 0: `enable_trailers` is not set, and trailers are dropped
    delayed_close: float = 1.0
    drain_timeout: float = 5.0
    codec: Codec = "AUTO"
    http2: Http2Options = field(default_factory=Http2Options)
    http2_stats: Http2Stats = field(default_factory=Http2Stats)
    keepalive: KeepaliveConfig | None = None
    internal_ranges: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    filters: tuple[Steps, ...] = ()
    log_steps: tuple[Step, ...] = ()
    _variants: dict[frozenset[tuple[str, bool]], HttpConfig] = field(default_factory=dict)

    def switched(self, switches: Switches) -> HttpConfig:
        """This with the filters that a route switches on or off."""
        differing = [(each.name, switches[each.name]) for each in self.filters
                     if switches.get(each.name, each.disabled) != each.disabled]  # fmt: skip
        if not differing:
            return self
        key = frozenset(differing)
        variant = self._variants.get(key)
        if variant is None:
            if len(self._variants) >= _MAX_VARIANTS:
                self._variants.clear()
            request, response, finish = chain(self.filters, switches)
            variant = self._variants[key] = replace(
                self, request_steps=request, response_steps=response, finish_steps=(*finish, *self.log_steps)
            )
        return variant

    def without_routes(self) -> HttpConfig:
        """This for a request that no route is to be looked for."""
        return replace(self, table=None, route_name="")

    def is_internal(self, head: RequestHead, connection: ResponseEncoder) -> bool:
        """Whether the client may steer retries and timeouts by headers: only from the addresses named as internal."""
        if not self.internal_ranges:
            return False
        if b"x-forwarded-for" not in head.marked:
            found = connection.remote_ip.decode() if self.use_remote_address else None
        elif self.use_remote_address or b"," in head.marked[b"x-forwarded-for"]:
            return False
        else:
            found = self.client_address.of(head)
        if not found:
            return False
        address = ipaddress.ip_address(found)
        return any(address in network for network in self.internal_ranges)

    def mark_server(self, head: Head) -> None:
        """The `server` header, where server_header_transformation may leave it to the upstream."""
        theirs = head.marked.get(b"server")
        if theirs is not None:
            head.lines.append(b"server: %b" % theirs)
        elif self.server_transformation != "PASS_THROUGH":
            head.lines.append(self.server_line)
