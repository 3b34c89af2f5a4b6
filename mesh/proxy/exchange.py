"""One request and its response: from the head's arrival through filters, route and upstream to the log line."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from mesh.proxy.http1.body import LAST_CHUNK, chunk
from mesh.proxy.http1.head import HOP, INTERNAL, RequestHead, ResponseHead
from mesh.proxy.http1.reply import STATUS_LINES
from mesh.proxy.rescue import (
    RESCUE,
    ConnectFailed,
    ConnectTimedOut,
    DownstreamClosed,
    Failure,
    NoCluster,
    NoHealthyUpstream,
    NoRoute,
    Overflow,
    RequestTimedOut,
    StreamIdle,
    TryTimedOut,
)  # fmt: skip
from mesh.proxy.route import DirectResponse, Forward, HeaderEdit, Redirect, RetryPolicy, Route, WeightedCluster

if TYPE_CHECKING:
    from mesh.proxy.cluster import Cluster, Host
    from mesh.proxy.downstream import Downstream, HttpConfig
    from mesh.proxy.tls import Peer
    from mesh.proxy.upstream import Upstream
    from mesh.proxy.workload import Workload

_TO_CLEAN = HOP | INTERNAL
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_WITH_CONTENT = frozenset((b"POST", b"PUT", b"PATCH"))  # Envoy says content-length: 0 for these, not for GET
_SMALL = 64 * 1024
_REQUEST = b"%b %b HTTP/1.1\r\n%b\r\n\r\n"
_CHUNKED_REQUEST = b"%b %b HTTP/1.1\r\n%b\r\ntransfer-encoding: chunked\r\n\r\n"
_RESPONSE = b"%b%b\r\n\r\n%b"
_CHUNKED_RESPONSE = b"%b%b\r\ntransfer-encoding: chunked\r\n\r\n%b"


class Exchange:
    """A request in flight. `Downstream` starts it, `Pool` and `Upstream` call it back, the sweep ends it in time."""

    __slots__ = (
        "_chunked_request", "_chunked_response", "_holds_retry", "_idle_at", "_idle_timeout", "_on_gone", "_on_wake",
        "_replay", "_replay_size", "_retry", "_route_deadline", "_route_timeout", "_sent", "_step", "_try_deadline",
        "_wake", "attempts", "bytes_received", "bytes_sent", "cluster", "cluster_name", "config", "connection",
        "deadline", "details", "elapsed", "flags", "head", "host", "is_over", "method", "request_done",
        "request_edits", "response_edits", "response_head", "retries_left", "route", "served_by", "source", "started",
        "status", "target", "transport_failure", "tried", "upstream", "upstream_started", "worker",
    )  # fmt: skip

    def __init__(self, connection: Downstream, head: RequestHead, payload: bytes, done: bool, has_body: bool) -> None:
        self.connection = connection
        self.config: HttpConfig = connection.config
        self.worker = connection.worker
        self.head = head
        self.method = head.method
        self.started = time.monotonic()
        self.request_done = done
        self.bytes_received = len(payload)
        self.bytes_sent = 0
        self.status = 0
        self.flags = ""
        self.details = ""
        self.transport_failure = ""
        self.is_over = False
        self.attempts = 0
        self.route: Route | None = None
        self.cluster: Cluster | None = None
        self.cluster_name = ""
        self.host: Host | None = None
        self.upstream: Upstream | None = None
        self.response_head: ResponseHead | None = None
        self.upstream_started = self.elapsed = 0.0
        self.source: Workload | None = None
        self.served_by: Upstream | None = None
        self.deadline = self._route_deadline = self._try_deadline = self._wake = inf
        self._route_timeout = 0.0
        self._idle_at = self.started
        self._idle_timeout = self.config.stream_idle_timeout
        self._holds_retry = False
        self.target: WeightedCluster | None = None
        self._step = 0
        self._on_gone: Callable[[], None] | None = None
        self._chunked_response = False
        self._chunked_request = has_body and b"transfer-encoding" in head.marked
        self._retry: RetryPolicy | None = None
        self._replay: list[bytes] | None = None
        if has_body:
            self._replay = [self._framed(payload, done)] if payload or done else []
        self._replay_size = len(payload)
        self._sent = False
        self.tried: list[Host] | None = None
        self.request_edits: tuple[HeaderEdit, ...] = ()
        self.response_edits: tuple[HeaderEdit, ...] = ()

    # The request's way

    def start(self) -> None:
        """Prepare the head as the connection manager does, find the route, run the filters, forward."""
        head, config = self.head, self.config
        marked = head.marked
        if config.normalize_path is not None:
            head.target = config.normalize_path(head.target)
        if not _TO_CLEAN.isdisjoint(marked) or config.use_remote_address:
            self._clean()
            if b"upgrade" in marked and config.refuses_upgrade(head):
                self.reply(403, b"", "", "upgrade_failed")
                return
        config.mark_origin(head, self.connection)
        if b"x-request-id" not in marked and config.generate_request_id:
            request_id = marked[b"x-request-id"] = new_request_id()
            head.lines.append(b"x-request-id: %b" % request_id)
        table = config.table or self.worker.runtime.routes.get(config.route_name)
        route = self.route = table.match(head) if table is not None else None
        if route is not None and type(route.action) is Forward:
            target = self.target = route.action.pick(head)
            self.cluster_name = target.name
            if not head.marked.keys() & _FRAMING and head.method in _WITH_CONTENT:
                head.lines.append(b"content-length: 0")
        self.resume()

    def resume(self) -> None:
        """Go on with the next filter's step."""
        steps = self.config.request_steps
        while self._step < len(steps):
            step = steps[self._step]
            self._step += 1
            if step(self):
                return
        self._act()

    def park(self, seconds: float, wake: Callable[[], None], gone: Callable[[], None] | None = None) -> None:
        """Wait for `seconds`, then call `wake`; or `gone`, if the exchange ends before."""
        self._wake = time.monotonic() + seconds
        self._on_wake = wake
        self._on_gone = gone
        self._rearm()

    def _act(self) -> None:
        route = self.route
        self.config.stats.rq_total += 1
        if route is None:
            self.config.stats.no_route += 1
            self.fail(NoRoute())
            return
        action = route.action
        if type(action) is Forward:
            self._forward(route, action)
        elif type(action) is Redirect:
            self.config.stats.rq_redirect += 1
            self._edits(route)
            location = action.location(self.head, self.connection.scheme)
            self.reply(action.status, b"", "", "direct_response", b"location: %b\r\n" % location)
        elif type(action) is DirectResponse:
            self.config.stats.rq_direct_response += 1
            self._edits(route)
            self.reply(action.status, action.body, "", "direct_response")

    def _edits(self, route: Route) -> None:
        if route.request_edit is not None:
            self.request_edits = (route.request_edit,)
        if route.response_edit is not None:
            self.response_edits = (route.response_edit,)

    def _forward(self, route: Route, action: Forward) -> None:
        head = self.head
        target = self.target
        assert target is not None
        cluster = self.worker.runtime.clusters.get(target.name)
        if cluster is None:
            self.config.stats.no_cluster += 1
            self.fail(NoCluster(), action.no_cluster_status)
            return
        self.cluster = cluster
        self._edits(route)
        if target.request_edit is not None:
            self.request_edits = (target.request_edit, *self.request_edits)
        if target.response_edit is not None:
            self.response_edits = (target.response_edit, *self.response_edits)
        self._idle_timeout = self.config.stream_idle_timeout if action.idle_timeout is None else action.idle_timeout
        self._retry = action.retry
        self.retries_left = action.retry.count if action.retry is not None else 0
        timeout = action.timeout
        if b"x-envoy-internal" in head.marked:
            timeout = self._steered(timeout)
        if timeout:
            per_try = self._retry.per_try_timeout if self._retry is not None else 0.0
            expected = per_try if 0 < per_try < timeout else timeout
            head.lines.append(b"x-envoy-expected-rq-timeout-ms: %d" % (expected * 1000))
            self._route_timeout = timeout  # runs from when the request is complete
        for edit in self.request_edits:
            edit.apply(head, self)
        self._rewrite(action, target.host_rewrite)
        if self.request_done:
            self._start_timeouts()
        elif self._idle_timeout:
            self._rearm()
        self._try()

    def _rewrite(self, action: Forward, host: bytes | None) -> None:
        head = self.head
        host = host or action.host_rewrite
        if action.host_rewrite_header is not None:
            host = head.get(action.host_rewrite_header) or host
        if host is not None:
            self._rewrite_host(host, action.append_x_forwarded_host)
        if action.rewrite_path is not None:
            path, question, query = head.target.partition(b"?")
            new = action.rewrite_path(path) + question + query
            if new != head.target:
                head.set(b"x-envoy-original-path", head.target)
                head.target = new

    def _rewrite_host(self, host: bytes, keep: bool) -> None:
        head = self.head
        if keep and head.authority != host:
            head.add(b"x-forwarded-host", head.authority)
        head.set(b"host", host)
        head.authority = host

    def _steered(self, timeout: float) -> float:
        """Timeout and retries as an internal client's headers want them."""
        marked = self.head.marked
        wanted = _number(marked.get(b"x-envoy-upstream-rq-timeout-ms"))
        if wanted is not None:
            timeout = wanted / 1000
        policy = self._retry or RetryPolicy(frozenset())
        on = marked.get(b"x-envoy-retry-on", b"").decode("latin-1")
        codes = marked.get(b"x-envoy-retriable-status-codes", b"").split(b",")
        per_try = _number(marked.get(b"x-envoy-upstream-rq-per-try-timeout-ms"))
        policy = replace(
            policy,
            on=policy.on | {name.strip() for name in on.split(",") if name.strip()},
            statuses=policy.statuses | {int(code) for code in codes if code.strip().isdigit()},
            per_try_timeout=policy.per_try_timeout if per_try is None else per_try / 1000,
        )
        if policy.on:
            self._retry = policy
            count = _number(marked.get(b"x-envoy-max-retries"))
            self.retries_left = policy.count if count is None else count
        return timeout

    def _try(self) -> None:
        """Pick a host and ask its pool for a connection."""
        assert self.cluster is not None
        assert self.route is not None
        retry = self._retry
        if self.tried and retry is not None and retry.skips_tried_hosts:
            host = self.cluster.pick(self.tried, retry.host_attempts)
        else:
            host = self.cluster.pick()
        if host is None:
            self.cluster.stats.upstream_cx_none_healthy += 1
            self.fail(NoHealthyUpstream())
            return
        self.host = host
        self.attempts += 1
        action = self.route.action
        if type(action) is Forward and action.auto_host_rewrite and host.endpoint.hostname:
            self._rewrite_host(host.endpoint.hostname.encode(), action.append_x_forwarded_host)
        if self.route.counts_attempts:
            self.head.set(b"x-envoy-attempt-count", b"%d" % self.attempts)
        self._sent = False
        try:
            host.pool.request(self)
        except Overflow as overflow:
            self.cluster.stats.codes.count(503)
            self.upstream_failed(overflow)

    def upstream_ready(self, upstream: Upstream) -> None:
        """The pool's answer: write the head, and of the body what is there, in one write."""
        self.upstream = self.served_by = upstream
        head = self.head
        if self._chunked_request:
            wire = _CHUNKED_REQUEST % (head.method, head.target, b"\r\n".join(head.lines))
        else:
            wire = _REQUEST % (head.method, head.target, b"\r\n".join(head.lines))
        self._sent = True
        self.upstream_started = time.monotonic()
        if self.request_done:
            upstream.request_done = True
        if self._replay:
            wire = b"".join((wire, *self._replay))
        if self.connection.is_blocked:
            self.connection.unblock()
        if self._retry is None:
            self._replay = None
        elif self._retry.per_try_timeout and self.request_done:
            self._try_deadline = time.monotonic() + self._retry.per_try_timeout
            self._rearm()
        upstream.transport.write(wire)

    # The request's body

    def _framed(self, payload: bytes, done: bool) -> bytes:
        if not self._chunked_request:
            return payload
        framed = chunk(payload) if payload else b""
        return framed + LAST_CHUNK if done else framed

    def request_payload(self, payload: bytes, done: bool) -> None:
        """More of the request's body, straight to the upstream, or kept while there is none or a retry may need it."""
        self.bytes_received += len(payload)
        self._idle_at = time.monotonic()
        framed = self._framed(payload, done)
        if self._replay is not None:
            self._keep(framed)
        if done:
            self.request_done = True
            if self.cluster is not None:
                self._start_timeouts()
        upstream = self.upstream
        if upstream is not None:
            upstream.request_done = done
            upstream.transport.write(framed)

    def _keep(self, framed: bytes) -> None:
        assert self._replay is not None
        self._replay.append(framed)
        self._replay_size += len(framed)
        if self._replay_size > self._buffer_limit():
            if self.upstream is None:
                self.connection.block()
            else:
                self._replay = None  # too large to send twice: this try is the last
                self._retry = None
                if self.cluster is not None:
                    self.cluster.stats.retry_or_shadow_abandoned += 1

    def _buffer_limit(self) -> int:
        if self.route is not None and self.route.buffer_limit is not None:
            return self.route.buffer_limit
        return self.config.buffer_limit

    # Deadlines

    def _start_timeouts(self) -> None:
        if self._route_timeout:
            self._route_deadline = time.monotonic() + self._route_timeout
            self._rearm()
        elif self._idle_timeout:
            self._rearm()

    def _rearm(self) -> None:
        idle = self._idle_at + self._idle_timeout if self._idle_timeout else inf
        self.deadline = min(self._route_deadline, self._try_deadline, self._wake, idle)
        self.worker.deadlines.add(self)

    def deadline_passed(self, now: float) -> None:
        """The sweep's call."""
        if self._wake <= now:
            self._wake = inf
            self._on_gone = None
            self._rearm()
            self._on_wake()
        elif self._route_deadline <= now:
            self._route_deadline = inf
            self._timed_out(RequestTimedOut())
        elif self._try_deadline <= now:
            self._try_deadline = inf
            self._rearm()
            self._timed_out(TryTimedOut())
        elif self._idle_timeout and self._idle_at + self._idle_timeout <= now:
            self._idle_timed_out()
        else:
            self._rearm()  # something moved since the deadline was set

    def _idle_timed_out(self) -> None:
        self.config.stats.downstream_rq_idle_timeout += 1
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abandon()
        # Envoy blames the client while its request is incomplete, the upstream afterwards.
        self.fail(StreamIdle(), 0 if self.request_done else 408)

    def _timed_out(self, failure: Failure) -> None:
        assert self.cluster is not None
        if type(failure) is TryTimedOut:
            self.cluster.stats.upstream_rq_per_try_timeout += 1
        else:
            self.cluster.stats.upstream_rq_timeout += 1
            self._retry = None
        if self.host is not None:
            self.host.rq_timeout += 1
        self.upstream_failed(failure)

    # The response's way

    def response_received(self, head: ResponseHead, payload: bytes, done: bool) -> None:
        """The upstream's response head with what came along of its body."""
        now = time.monotonic()
        cluster, host, route = self.cluster, self.host, self.route
        assert cluster is not None
        assert host is not None
        assert route is not None
        status = head.status
        stats = cluster.stats
        if cluster.outlier is not None:
            cluster.outlier.responded(host.health, status)
        if status >= 500:
            host.rq_error += 1
        else:
            host.rq_success += 1
        if self._retry is not None and self._retry.wants_response(head) and self._may_retry():
            stats.retry_codes.count(status)
            self._retry_later(complete=done)
            return
        stats.codes.count(status)
        elapsed = (now - self.upstream_started) * 1e3
        stats.upstream_rq_time.record(elapsed)
        if self.attempts > 1 and status < 500:
            stats.upstream_rq_retry_success += 1
        self._try_deadline = inf
        self._replay = None
        marked = head.marked
        if b"connection" in marked and (listed := _listed(marked[b"connection"])):
            head.remove(listed)
        lines = head.lines
        service_time = marked[b"x-envoy-upstream-service-time"] = b"%d" % elapsed
        lines.append(b"x-envoy-upstream-service-time: %b" % service_time)
        if route.counts_attempts_in_response:
            head.set(b"x-envoy-attempt-count", b"%d" % self.attempts)
        if b"date" not in marked:
            lines.append(b"date: %b" % self.worker.clock.date(now))
        has_body = self.method != b"HEAD" and status not in (204, 304)
        self._chunked_response = has_body and b"content-length" not in marked
        self.details = self.details or "via_upstream"
        if done:
            self.upstream = None
        self._send_head(head, payload, done)

    def _send_head(self, head: ResponseHead, payload: bytes, done: bool) -> None:
        """Finish the response's head and write it with the first of its body."""
        config, connection = self.config, self.connection
        self.response_head = head
        self.status = head.status
        for step in config.response_steps:
            step(self)
        for edit in self.response_edits:
            edit.apply(head, self)
        config.mark_server(head)
        if not self.request_done or connection.will_close or self.worker.is_draining or self.method == b"CONNECT":
            connection.will_close = True
            head.lines.append(b"connection: close")
        self.bytes_sent = len(payload)
        form = _RESPONSE
        if self._chunked_response:
            form = _CHUNKED_RESPONSE
            if payload:
                payload = chunk(payload)
            if done:
                payload += LAST_CHUNK
        write = connection.transport.write
        if len(payload) < _SMALL:
            write(form % (STATUS_LINES[head.status], b"\r\n".join(head.lines), payload))
        else:
            write(form % (STATUS_LINES[head.status], b"\r\n".join(head.lines), b""))
            write(payload)
        if done:
            self._end()

    def payload_received(self, payload: bytes, done: bool) -> None:
        """More of the upstream's response body."""
        self._idle_at = time.monotonic()
        self.bytes_sent += len(payload)
        if self._chunked_response:
            payload = chunk(payload) if payload else b""
            if done:
                payload += LAST_CHUNK
        if done:
            # It is back in its pool, perhaps with a request of somebody else: our client must not hold it up.
            self.upstream = None
        if payload:
            self.connection.transport.write(payload)
        if done:
            self._end()

    def reply(self, status: int, body: bytes, flag: str, details: str, headers: bytes = b"") -> None:
        """Answer without an upstream; `headers` are whole lines with their ends."""
        self.details = details
        self.add_flag(flag)
        lines = [line for line in headers.split(b"\r\n") if line]
        marked: dict[bytes, bytes] = {}
        if body:
            lines[:0] = [b"content-length: %d" % len(body), b"content-type: text/plain"]
        lines.append(b"date: %b" % self.worker.clock.date(time.monotonic()))
        if not body:
            lines.append(b"transfer-encoding: chunked" if self.method == b"HEAD" else b"content-length: 0")
        head = ResponseHead(status, b"", False, lines, marked)
        self._chunked_response = False
        self._send_head(head, b"" if self.method == b"HEAD" else body, True)

    # Failing and retrying

    def upstream_failed(self, failure: Failure) -> None:
        """The try ended without a complete response."""
        cluster, host = self.cluster, self.host
        assert cluster is not None
        if self.upstream is not None:
            upstream, self.upstream = self.upstream, None
            if upstream.caller is self:
                cluster.stats.upstream_rq_tx_reset += 1
                upstream.abandon()
            else:
                cluster.stats.upstream_rq_rx_reset += 1
        elif not self._sent and host is not None:
            host.pool.cancel(self)
        rescue = RESCUE[type(failure)]
        if host is not None and type(failure) is not Overflow:
            host.rq_error += 1
            if cluster.outlier is not None and self.response_head is None:
                cluster.outlier.failed_locally(host.health, rescue.status)
        if self._retry is not None and type(failure) is not RequestTimedOut:
            is_connect = isinstance(failure, (ConnectFailed, ConnectTimedOut))
            wanted = self._retry.wants_failure(is_connect, self.response_head is not None)
            if type(failure) is Overflow:
                wanted = False
            if wanted and self._may_retry():
                self._retry_later(complete=True)
                return
        if self.response_head is None and type(failure) is not Overflow:
            cluster.stats.codes.count(rescue.status)
        self.fail(failure)

    def _may_retry(self) -> bool:
        assert self.cluster is not None
        if self._replay is None and not self.request_done:
            return False
        if self.retries_left <= 0:
            self.cluster.stats.upstream_rq_retry_limit_exceeded += 1
            self.add_flag("URX")
            return False
        self._give_retry_back()
        if self.cluster.breaker.may_retry():
            return True
        self.add_flag("UO")
        return False

    def _retry_later(self, complete: bool) -> None:
        assert self.cluster is not None
        assert self._retry is not None
        upstream, self.upstream = self.upstream, None
        if upstream is not None and not complete:
            upstream.abandon()
        self.retries_left -= 1
        self._holds_retry = True
        self.cluster.stats.retries_active += 1
        self.cluster.stats.upstream_rq_retry += 1
        self.cluster.stats.upstream_rq_retry_backoff_exponential += 1
        if self.tried is None:
            self.tried = []
        if self.host is not None:
            self.tried.append(self.host)
        self._try_deadline = inf
        self.park(self._retry.back_off(self.attempts), self._try)

    def _give_retry_back(self) -> None:
        """A retry counts against max_retries until its outcome is known."""
        if self._holds_retry:
            assert self.cluster is not None
            self._holds_retry = False
            self.cluster.stats.retries_active -= 1

    def fail(self, failure: Failure, status: int = 0) -> None:
        """Answer for a failure, by the table in `rescue`; after the response has begun only a reset is left."""
        rescue = RESCUE[type(failure)]
        self.transport_failure = failure.transport.replace(" ", "_")
        if self.response_head is not None:
            self.add_flag(rescue.flag)
            self.details = rescue.details.replace("_before_response_started", "_after_response_started")
            self.config.stats.rq_reset_after_downstream_response_started += 1
            self._end(reset=True)
            return
        details, body = rescue.details.replace("{reason}", failure.reason), rescue.body
        if failure.transport and rescue.is_reset:
            details = f"{details[:-1]}|{self.transport_failure}}}"
            if failure.transport.startswith("TLS"):
                body = f"{body}, transport failure reason: {failure.transport}"
        self.reply(status or rescue.status, body.encode(), rescue.flag, details, rescue.headers)

    def add_flag(self, flag: str) -> None:
        if flag and flag not in self.flags.split(","):
            self.flags = f"{self.flags},{flag}" if self.flags else flag

    def downstream_lost(self) -> None:
        """The client is gone: stop the upstream's work and write the log line."""
        self.add_flag("DC")
        self.details = RESCUE[DownstreamClosed].details
        self.config.stats.downstream_rq_rx_reset += 1
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            assert self.cluster is not None
            self.cluster.stats.upstream_rq_tx_reset += 1
            upstream.abandon()
        self._end()

    def _end(self, reset: bool = False) -> None:
        """Everything is said: count, log, and give the connection back."""
        if self.is_over:
            return
        self.is_over = True
        self.worker.deadlines.discard(self)
        if self._on_gone is not None:
            self._on_gone()
        if self._holds_retry:
            self._give_retry_back()
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abandon()
        elif self.host is not None and not self._sent:
            self.host.pool.cancel(self)
        stats = self.config.stats
        stats.downstream_rq_active -= 1
        if self.status:
            stats.codes.count(self.status)
        self.elapsed = time.monotonic() - self.started
        stats.downstream_rq_time.record(self.elapsed * 1e3)
        for step in self.config.finish_steps:
            step(self)
        self.connection.exchange_over(reset)

    # For logs and statistics

    @property
    def remote_address(self) -> str:
        """Where the request came from, `ip:port`: the last hop that x-forwarded-for names, unless we are the edge."""
        forwarded = self.head.marked.get(b"x-forwarded-for")
        if forwarded is None or self.config.use_remote_address:
            return self.connection.remote_address
        return f"{forwarded.rpartition(b',')[2].strip().decode('latin-1')}:0"

    @property
    def upstream_peer(self) -> Peer | None:
        """Who the upstream proved to be; None over plaintext."""
        return self.served_by.transport.get_extra_info("peer") if self.served_by is not None else None

    @property
    def upstream_local_address(self) -> str:
        """Our end of the upstream connection, `ip:port`."""
        return self.served_by.local_address if self.served_by is not None else ""

    # Flow control

    def upstream_blocked(self) -> None:
        self.connection.block()

    def upstream_unblocked(self) -> None:
        self.connection.unblock()

    def _clean(self) -> None:
        """Look at what was taken off the head: what the client says to us, and may it say so."""
        head = self.head
        marked = head.marked
        connection = marked.get(b"connection")
        if connection is not None:
            if b"close" in connection.lower():
                self.connection.will_close = True
            if listed := _listed(connection):
                head.remove(listed)
        if marked.get(b"te", b"").lower() == b"trailers":
            head.lines.append(b"te: trailers")
        if self.config.is_internal(head, self.connection):
            head.set(b"x-envoy-internal", b"true")
            return
        for name in INTERNAL & marked.keys():
            del marked[name]
        if self.config.use_remote_address:
            head.take(b"x-envoy-decorator-operation")
            if not self.config.preserve_external_request_id:
                head.take(b"x-request-id")


def _listed(connection: bytes) -> set[bytes]:
    """The header names that a Connection header lists, which are as hop-by-hop as itself."""
    return {name.strip() for name in connection.lower().split(b",")} - {b"close", b"keep-alive", b"te", b"upgrade", b""}


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None


def new_request_id() -> bytes:
    """A random UUID, version 4, from the fast generator: it must be unique, not secret."""
    text = f"{random.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[int(text[16], 16) & 3]}{text[17:20]}-{text[20:]}".encode()
