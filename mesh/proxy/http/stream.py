"""The client's side of a request: what Envoy's HTTP connection manager does for one stream, whatever its codec.

From the head's arrival to the route and through the filters (`start`, `resume`, `act`), and from the response's head to
the log line (`send_head`, `send_payload`, `end`; `reply` and `fail` for answers of our own). What lies between, the
upstream, is `Relay` and `Exchange`, which build on this.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from mesh.proxy.downstream.connection_info import text_of
from mesh.proxy.http import grpc
from mesh.proxy.http.grpc import is_grpc, status_of_http
from mesh.proxy.http.request_head import clean, new_request_id
from mesh.proxy.http.rescue import RESCUE, Failure, RequestIncomplete, StreamTooLong
from mesh.proxy.http.response_head import local_head
from mesh.proxy.http.route import Forward, HeaderEdit, Route, WeightedCluster
from mesh.proxy.http.timeouts import Timeouts
from mesh.proxy.http.upgrade import admit
from mesh.proxy.http1.head import Head, RequestHead, ResponseHead
from mesh.proxy.http1.names import HOP, INTERNAL

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Switches
    from mesh.proxy.filters.throttle import Throttle
    from mesh.proxy.http.codec import RequestEncoder, ResponseEncoder
    from mesh.proxy.observe.tracing.span import Span
    from mesh.proxy.observe.workload import Workload
    from mesh.proxy.tls.connection import Peer
    from mesh.proxy.upstream.host import Host

_TO_CLEAN = HOP | INTERNAL | {b"x-forwarded-client-cert"}


class Stream(Timeouts):
    """One request of a client and its answer: all that filters, header formats and logs may see of it.

    `bytes_*` count bodies, `started` and `elapsed` are in seconds; `connection` is the client's side of the stream;
    `host` is that of the last try, `served_by` the upstream's side of the stream to it. `answered` (the upstream's
    first byte) and `request_ended` (of a request with a body) are set when they come, and not before.
    """

    __slots__ = (
        "_draw", "_metadata", "_step", "answered", "attempts", "bytes_received", "bytes_sent", "cluster_name",
        "config", "connection", "details", "elapsed", "flags", "head", "host", "is_over", "is_tunnel", "local_body",
        "max_duration", "method", "request_done", "request_ended", "response_edits", "response_head",
        "response_trailers", "route", "served_by", "source", "span", "started", "status", "target", "throttle",
        "transport_failure", "upgrade",
    )  # fmt: skip

    span: Span | None  # set by tracing, and only where that is configured
    local_body: str  # set with the body of a local reply that is formatted

    def __init__(self, connection: ResponseEncoder, head: RequestHead, received: int, done: bool) -> None:
        config = connection.config
        self.started = now = time.monotonic()
        Timeouts.__init__(self, connection.worker, now, config.stream_idle_timeout)
        self.connection = connection
        self.config = config
        self.head = head
        self.method = head.method
        self.request_done = done
        self.bytes_received = received
        self.bytes_sent = 0
        self.status = 0
        self.flags = ""
        self.details = ""
        self.transport_failure = ""
        self.is_over = False
        self.route: Route | None = None
        self.target: WeightedCluster | None = None
        self.cluster_name = ""
        self.response_head: ResponseHead | None = None
        self.response_trailers: Head | None = None
        self.response_edits: tuple[HeaderEdit, ...] = ()
        self.source: Workload | None = None
        self.host: Host | None = None
        self.served_by: RequestEncoder | None = None
        self.attempts = 0
        self.max_duration = config.max_stream_duration
        self.upgrade = b""  # the protocol that the client asks for, in lower case
        self.is_tunnel = False  # whether the upstream has agreed to it
        self._step = 0
        self._draw = 0
        self.throttle: Throttle | None = None  # what slows the response down

    # The request: connection manager and filters

    def start(self) -> None:
        """Prepare the head as the connection manager does, find the route, run the filters, forward."""
        head, config = self.head, self.config
        marked = head.marked
        if config.cuts_off:
            self._await_cutoff(self.started)
        for prepare in config.prepare:
            if prepare(self):
                return
        if not _TO_CLEAN.isdisjoint(marked) or config.cleans_always:
            clean(self)
        config.mark_origin(self)
        if b"x-request-id" not in marked and config.generate_request_id:
            request_id = marked[b"x-request-id"] = new_request_id()
            head.lines.append(b"x-request-id: %b" % request_id)
        self.find_route()
        if self.upgrade and not admit(self):
            self.reply(403, b"", "", "upgrade_failed")
            return
        self.resume()

    def _await_cutoff(self, now: float) -> None:
        """Of request_timeout and max_stream_duration what comes next."""
        config = self.config
        moments = [self.started + limit for limit in (self.max_duration,) if limit]
        if config.request_timeout and not self.request_done:
            moments.append(self.started + config.request_timeout)
        self.cutoff = min((moment for moment in moments if moment > now), default=inf)
        self.rearm()

    def cut_off(self, now: float) -> None:
        stats = self.config.stats
        if self.max_duration and self.started + self.max_duration <= now:
            self.cutoff = inf
            stats.downstream_rq_max_duration_reached += 1
            self.timed_out(StreamTooLong())
        elif not self.request_done:
            self._await_cutoff(now)
            stats.downstream_rq_timeout += 1
            self.timed_out(RequestIncomplete())
        else:
            self._await_cutoff(now)

    def find_route(self) -> None:
        """Find route and cluster for the head as it is now; again, when a filter has changed what routes look at."""
        table = self.config.table or self.worker.runtime.routes.get(self.config.route_name)
        route = self.route = table.match(self) if table is not None else None
        self.target = None
        self.cluster_name = ""
        if route is None:
            return
        if type(route.action) is Forward:
            action = route.action
            target = self.target = action.only or action.pick(self)
            self.cluster_name = target.name
            if action.max_duration is not None:
                self.max_duration = action.max_duration(self.head, self.config.max_stream_duration)
                self._await_cutoff(self.started)
        if route.switches is not None and not self._step:
            self._switch_filters(route.switches)

    @property
    def draw(self) -> int:
        """The request's random number of 64 bits: as in Envoy one for all the fractions and weights of its routes."""
        if not self._draw:
            self._draw = random.getrandbits(64)
        return self._draw

    def set_cookie(self, cookie: bytes) -> None:
        """Give the client a cookie with the upstream's response."""

        def add(head: Head, stream: Stream) -> None:
            if stream.details == "via_upstream":
                head.add(b"set-cookie", cookie)

        self.response_edits = (*self.response_edits, HeaderEdit(steps=(add,)))

    def _switch_filters(self, switches: Switches) -> None:
        target = self.target
        if target is not None and target.switches is not None:
            switches = {**switches, **target.switches}
        self.config = self.config.switched(switches)

    def resume(self) -> None:
        """Go on with the next filter's step."""
        steps = self.config.request_steps
        while self._step < len(steps):
            step = steps[self._step]
            self._step += 1
            if step(self):
                return
        self.act()

    @property
    def client_protocol(self) -> str:
        """The protocol that the request came by, as it is logged."""
        return self.connection.protocol

    # For filters

    def of_route(self, name: str) -> Any:
        """What the weighted cluster, the route or its virtual host says of a filter; None if nothing is said."""
        target, route = self.target, self.route
        if target is not None and name in target.filter_config:
            return target.filter_config[name]
        return route.filter_config.get(name) if route is not None else None

    def hold(self, gone: Callable[[], None] | None = None) -> None:
        """The request waits here until `go_on` or a reply; `gone` is called if the stream ends before."""
        self._on_gone = gone
        if self.idle_timeout:
            self.rearm()

    def go_on(self) -> None:
        """What was held goes on with the next filter."""
        self._on_gone = None
        self.resume()

    def collect_body(self, limit: int, then: Callable[[], None]) -> bool:
        """Hold the request until all of its body is there or more than `limit` bytes are, then call `then`; false, and
        nothing is held, if that is so already.
        """
        raise NotImplementedError

    def on_response(self, change: Callable[[Head, Stream], None]) -> None:
        """Change the response's head before it is sent, whoever it comes from."""
        self.response_edits = (*self.response_edits, HeaderEdit(steps=(change,)))

    @property
    def has_body(self) -> bool:
        """Whether the request has a body, though it may be an empty one."""
        raise NotImplementedError

    @property
    def request_body(self) -> bytes:
        """What is there of the request's body."""
        raise NotImplementedError

    @property
    def metadata(self) -> dict[str, dict[str, Any]]:
        """Dynamic metadata, by namespace; made when it is first asked for."""
        try:
            return self._metadata
        except AttributeError:
            self._metadata: dict[str, dict[str, Any]] = {}
            return self._metadata

    def block_upstream(self) -> None:
        """Read no more of the response for now."""
        raise NotImplementedError

    def unblock_upstream(self) -> None:
        raise NotImplementedError

    def act(self) -> None:
        """The filters are through: do what the route says."""
        raise NotImplementedError

    # The response

    def send_head(self, head: ResponseHead, payload: bytes, done: bool) -> None:
        """Finish the response's head and send it with the first of its body."""
        config = self.config
        self.response_head = head
        self.status = head.status
        for step in config.response_steps:
            step(self)
        for edit in self.response_edits:
            edit.apply(head, self)
        if config.server_transformation == "OVERWRITE":
            head.lines.append(config.server_line)
        else:
            config.mark_server(head)
        for mark in config.response_marks:
            mark(self, head)
        self.bytes_sent = len(payload)
        self.connection.send_head(head, payload, done)
        if done:
            self.end()

    def send_payload(self, payload: bytes, done: bool) -> None:
        """More of the response's body."""
        self.idle_at = time.monotonic()
        self.bytes_sent += len(payload)
        self.connection.send_payload(payload, done)
        if done:
            self.end()

    def send_trailers(self, trailers: Head) -> None:
        """The end of a response that has trailers."""
        self.response_trailers = trailers
        self.connection.send_trailers(trailers)
        self.end()

    def reply(
        self,
        status: int,
        body: bytes,
        flag: str,
        details: str,
        headers: bytes = b"",
        *,
        grpc_status: int | None = None,
    ) -> None:
        """Answer without an upstream; `headers` are whole lines with their ends. A gRPC call is answered as gRPC does,
        with `grpc_status` or what the status stands for.
        """
        self.details = details
        self.add_flag(flag)
        date = self.worker.clock.date(time.monotonic())
        replies = self.config.local_replies
        content_type, edit = b"text/plain", None
        if replies is not None:
            status, body, content_type, edit = replies.rewrite(self, status, body)
        if is_grpc(self.head):
            said = status_of_http(status) if grpc_status is None else grpc_status
            head, body = grpc.local_head(said, body, headers, date), b""
        else:
            head = local_head(status, body, headers, date, content_type)
        if edit is not None:
            edit.apply(head, self)
        self.send_head(head, b"" if self.method == b"HEAD" else body, True)

    def fail(self, failure: Failure, status: int = 0) -> None:
        """Answer for a failure, by the table in `rescue`; after the response has begun only a reset is left."""
        rescue = RESCUE[type(failure)]
        self.transport_failure = failure.transport
        if self.response_head is not None:
            self.add_flag(rescue.flag)
            self.details = rescue.details.replace("_before_response_started", "_after_response_started")
            if is_grpc(self.head):  # of others Envoy does not count it
                self.config.stats.rq_reset_after_downstream_response_started += 1
            self.end(reset=True)
            return
        details, body = rescue.words(failure)
        code, grpc_status = status or rescue.status, rescue.grpc_status
        self.reply(code, body.encode(), rescue.flag, details, rescue.headers, grpc_status=grpc_status)

    def add_flag(self, flag: str) -> None:
        """Add to `flags`, which are joined by commas as Envoy logs them."""
        if flag and flag not in self.flags.split(","):
            self.flags = f"{self.flags},{flag}" if self.flags else flag

    def end(self, reset: bool = False) -> None:
        """Everything is said: count, log, and give the connection back; `reset` if the response broke off."""
        if self.is_over:
            return
        self.is_over = True
        self.stop_timeouts()
        self.let_go()
        stats = self.config.stats
        stats.downstream_rq_active -= 1
        if self.upgrade:
            stats.downstream_cx_upgrades_active -= 1
        if self.status:
            stats.codes.count(self.status)
        self.elapsed = time.monotonic() - self.started
        stats.downstream_rq_time.record(self.elapsed * 1e3)
        for step in self.config.finish_steps:
            step(self)
        self.connection.exchange_over(reset)

    def let_go(self) -> None:
        """Give up whatever is still held upstream."""
        raise NotImplementedError

    # For logs and statistics

    @property
    def remote_address(self) -> str:
        """Where the request came from, `ip:port`, as far as the proxies in front are trusted to tell."""
        place = self.config.client_address
        if not place.header and b"x-forwarded-for" not in self.head.marked:
            return self.connection.remote_address
        ip = place.of(self.head)
        return self.connection.remote_address if ip is None else text_of((ip, 0))

    @property
    def upstream_peer(self) -> Peer | None:
        """Who the upstream proved to be; None over plaintext."""
        return self.served_by.peer if self.served_by is not None else None
