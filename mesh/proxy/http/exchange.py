"""One request and its response, between a client's stream and an upstream: what Envoy's router does.

The way out is `act` (the route), `_forward`, `_try`, `upstream_ready`; the way back `response_received`, or
`upstream_failed` and perhaps `_try` again. Bodies and trailers, either way, pass through `Relay`, on which this builds.
Beside it stand `request_head` and `response_head` (what is changed in heads), `upgrade` (tunnels), `mirror` (copies),
`retry` (policy, and what is left of it), `timeouts`, `expiry` (what follows when one of
them has run out), and `rescue` (how a failure is answered). How requests and
responses are written is behind `codec`.
"""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING

from mesh.proxy.http.expiry import TIMES, expired
from mesh.proxy.http.grpc import http_status, is_grpc
from mesh.proxy.http.mirror import begin_mirrors
from mesh.proxy.http.relay import Relay
from mesh.proxy.http.request_body import RequestBody
from mesh.proxy.http.request_head import limits, rewrite, rewrite_host
from mesh.proxy.http.rescue import RESCUE, DownstreamClosed, Failure, NoCluster, NoHealthyUpstream, NoRoute, Overflow
from mesh.proxy.http.response_head import prepare, restore_server
from mesh.proxy.http.retry import Retries, RetryPolicy
from mesh.proxy.http.route import DirectResponse, Forward, Redirect, Route
from mesh.proxy.http.stream import Stream
from mesh.proxy.http.upgrade import WEBSOCKET, answered
from mesh.proxy.http1.head import RequestHead, ResponseHead
from mesh.proxy.http1.upgrade import CONNECT

if TYPE_CHECKING:
    from mesh.proxy.filters.upstream_fault import TryFault
    from mesh.proxy.http.codec import RequestEncoder, ResponseEncoder

_INTERIM = frozenset((100, 102, 103, 104))


class Exchange(Relay):
    """A request in flight. The client's codec starts it, a pool and the upstream's codec call it back, and the sweep
    ends it in time.
    """

    __slots__ = (
        "_key",
        "_retries",
        "_sent",
        "_was_informed",
        "try_fault",
        "upstream_started",
    )  # fmt: skip

    def __init__(
        self, connection: ResponseEncoder, head: RequestHead, payload: bytes, done: bool, has_body: bool
    ) -> None:
        Stream.__init__(self, connection, head, len(payload), done)
        self.cluster = self.upstream = self.retry = None
        self.body = RequestBody(payload) if has_body else None
        self.mirrors = ()
        self.awaits_handshake = False
        self._retries: Retries | None = None
        self._sent = False
        self._was_informed = False
        self.try_fault: TryFault | None = None  # what each try meets
        self._key: int | None = None  # what the cluster's balancer may hash by

    # The way out

    def act(self) -> None:
        """Forward, redirect or answer, as the route says."""
        route = self.route
        stats = self.config.stats
        stats.rq_total += 1
        if route is None:
            stats.no_route += 1
            self.fail(NoRoute())
            return
        action = route.action
        if type(action) is Forward:
            self._forward(route, action)
            return
        if route.response_edit is not None:
            self.response_edits = (route.response_edit, *self.response_edits)
        if type(action) is Redirect:
            stats.rq_direct_response += 1  # as Envoy counts redirects, too
            location = action.location(self.head)
            self.reply(action.status, b"", "", "direct_response", b"location: %b\r\n" % location)
        elif type(action) is DirectResponse:
            stats.rq_direct_response += 1
            self.reply(action.status, action.body, "", "direct_response")

    def _forward(self, route: Route, action: Forward) -> None:
        head, target = self.head, self.target
        assert target is not None
        cluster = self.worker.runtime.clusters.get(target.name)
        if cluster is None:
            self.config.stats.no_cluster += 1
            self.fail(NoCluster(), action.no_cluster_status)
            return
        if action.is_high_priority:
            cluster = cluster.high
        self.cluster = cluster
        if target.response_edit is not None:
            self.response_edits = (target.response_edit, *self.response_edits)
        if action.idle_timeout is not None:
            self.idle_timeout = action.idle_timeout
        timeout, retry, expected = action.timeout, action.retry, action.expected_timeout
        if b"x-envoy-internal" in head.marked or action.grpc_timeout is not None:
            timeout, retry, expected = limits(head, action)
        if retry is not None and retry.request_headers and not retry.concerns(head):
            retry = retry.without_retries()
        self.retry = retry
        if expected is not None:
            if not self.config.suppresses_envoy_headers:
                head.lines.append(expected)
            self.route_timeout = timeout
        if target.request_edit is not None:
            target.request_edit.apply(head, self)
        if action.rewrites or target.host_rewrite is not None:
            rewrite(head, action, target.host_rewrite, tells=not self.config.suppresses_envoy_headers)
        if action.hash_key is not None:
            self._key = action.hash_key(self)
        if cluster.original_dst is not None:
            info = self.connection.info
            self._key = cluster.original_dst.key(head, info.original_destination if info is not None else None)
        if action.mirrors:
            begin_mirrors(self, action.mirrors)
        self.awaits_handshake = self.upgrade == WEBSOCKET
        if self.request_done or self.awaits_handshake:
            self.start_route_timeout()
        elif self.idle_timeout:
            self.rearm()
        self._try()

    def _try(self) -> None:
        """Pick a host and ask its pool for a connection."""
        cluster, route = self.cluster, self.route
        assert cluster is not None
        assert route is not None
        retry = self.retry
        if self._retries is not None and retry is not None:
            host = cluster.pick(self._key, self._retries, retry.host_attempts)
        else:
            host = cluster.pick(self._key)
        if host is None:
            cluster.stats.upstream_cx_none_healthy += 1
            cluster.stats.codes.count(RESCUE[NoHealthyUpstream].status)
            self.fail(NoHealthyUpstream())
            return
        self.host = host
        self.attempts += 1
        action = route.action
        if type(action) is Forward and action.auto_host_rewrite and host.endpoint.hostname:
            rewrite_host(self.head, host.endpoint.hostname.encode(), action.append_x_forwarded_host)
        if route.counts_attempts:
            self.head.set(b"x-envoy-attempt-count", b"%d" % self.attempts)
        self._sent = False
        if self.try_fault is not None:
            if retry is not None:
                self.upstream_started = time.monotonic()
                self._start_try(retry)
            if self.try_fault.strikes():
                return
        self.request_upstream()

    def request_upstream(self) -> None:
        """Ask the pool of the try's host for a connection."""
        cluster, host = self.cluster, self.host
        assert cluster is not None
        assert host is not None
        try:
            if self.upgrade == CONNECT and self._ends_connect():
                host.connect_pool.request(self)
            else:
                (host.pool if cluster is host.cluster else host.high_pool).request(self)
        except Overflow as overflow:
            cluster.stats.codes.count(503)
            self.upstream_failed(overflow)

    def answer_try(self, head: ResponseHead, body: bytes) -> None:
        """The try ends with this, as if its host had said so."""
        self._sent = True
        self.upstream_started = time.monotonic()
        self.response_received(head, body, True)

    def _ends_connect(self) -> bool:
        """Whether the route has the CONNECT end here and its payload go on as TCP."""
        return self.route is not None and type(self.route.action) is Forward and self.route.action.ends_connect

    def upstream_ready(self, upstream: RequestEncoder) -> None:
        """The pool's answer: send the head, and of the body what is there."""
        self.upstream = self.served_by = upstream
        self._sent = True
        body, done = self.body, self.request_done
        self.upstream_started = time.monotonic()
        if self.connection.is_blocked:
            self.connection.unblock()
        if self.retry is not None:
            self._start_try(self.retry)
        if body is None:
            upstream.send_request(self.head, None, done)
            return
        pieces, trailers = body.kept, body.trailers
        if self.awaits_handshake:
            pieces = []
        elif self.retry is None or not self.retry.on:
            body.kept = None
        upstream.send_request(self.head, pieces, done and trailers is None)
        if trailers is not None and self.upstream is upstream:
            upstream.send_trailers(trailers)

    def _start_try(self, retry: RetryPolicy) -> None:
        if retry.per_try_timeout and (self.request_done or self.awaits_handshake):
            self.start_try_timeout(retry.per_try_timeout)
        if retry.per_try_idle_timeout:
            self.idle_at = self.upstream_started
            self.idle_timeout = min(retry.per_try_idle_timeout, self.idle_timeout or inf)
            self.rearm()

    # The way back

    def informational_received(self, head: ResponseHead) -> None:
        """An interim response of the upstream: as in Envoy the first of a kind that it knows, and then no retry."""
        if head.status not in _INTERIM or self._was_informed:
            return
        assert self.cluster is not None
        self._was_informed = True
        self.give_up_retries()
        self.cluster.stats.codes.count(head.status)
        if self.config.proxy_100_continue:  # else we have answered `Expect` ourselves
            self.config.stats.codes.count(head.status)
            restore_server(head)
            self.connection.send_informational(head)

    def response_received(self, head: ResponseHead, payload: bytes, done: bool) -> None:
        """The upstream's response head with what came along of its body."""
        now = self.answered = time.monotonic()
        cluster, host, status = self.cluster, self.host, head.status
        assert cluster is not None
        assert host is not None
        stats = cluster.stats
        judged = status
        if b"grpc-status" in head.marked and is_grpc(self.head):
            judged = http_status(head.marked[b"grpc-status"])
        if cluster.outlier is not None:
            cluster.outlier.responded(host.health, judged)
        if cluster.checker is not None and head.get(b"x-envoy-immediate-health-check-fail") is not None:
            cluster.checker.told_to_fail(host)
        if judged >= 500:
            host.rq_error += 1
        else:
            host.rq_success += 1
        retry = self.retry
        if retry is not None and retry.per_try_idle_timeout:
            self.idle_at = now
        if retry is not None and retry.on and retry.wants_response(head):
            reset_after = retry.reset_after(head) if retry.reset_headers else None
            if self._try_again(done, reset_after):
                stats.retry_codes.count(status)
                return
        stats.codes.count(status)
        service_ms = (now - self.upstream_started) * 1e3
        stats.upstream_rq_time.record(service_ms)
        if self.attempts > 1 and status < 500:
            stats.upstream_rq_retry_success += 1
        self.try_deadline = inf
        prepare(self, head, now, service_ms)
        if self.upgrade:
            payload, done = answered(self, head, payload, done)
        if self.body is not None:
            self.body.kept = None
        self.details = self.details or "via_upstream"
        if done:
            self.upstream = None
        if self.throttle is None:
            self.send_head(head, payload, done)
        else:
            self.throttle.head(head, payload, done)

    @property
    def has_met_host(self) -> bool:
        """Whether the try has come to its host, which Envoy does not blame for time spent waiting for a connection."""
        return self._sent or self.try_fault is not None

    def upstream_failed(self, failure: Failure) -> None:
        """The try ended without a complete response."""
        cluster, host = self.cluster, self.host
        assert cluster is not None
        if self.upstream is not None:
            upstream, self.upstream = self.upstream, None
            if upstream.caller is self:
                upstream.abandon()
        elif not self._sent and host is not None:
            host.cancel(self)
        rescue = RESCUE[type(failure)]
        if type(failure) is Overflow:
            self.fail(failure)
            return
        if host is not None and (type(failure) not in TIMES or self.has_met_host):
            host.rq_error += 1
            if cluster.outlier is not None and self.response_head is None:
                cluster.outlier.failed_locally(host.health, rescue.status, was_connected=self._sent)
        if self.retry is not None:
            wanted = self.retry.wants_failure(failure, self.response_head is not None)
            if wanted and self._try_again(complete=True):
                return
        if self.response_head is None:
            cluster.stats.codes.count(rescue.status)
        self.fail(failure)

    def _try_again(self, complete: bool, reset_after: float | None = None) -> bool:
        """Begin the next try after its back-off, or `reset_after` seconds; false if there may be none."""
        cluster, retry = self.cluster, self.retry
        assert cluster is not None
        assert retry is not None
        if not self.request_done and (self.body is None or self.body.kept is None):
            return False
        if self._retries is None:
            self._retries = Retries(cluster, retry)
        refusal = self._retries.claim(self.host)
        if refusal:
            self.add_flag(refusal)
            return False
        upstream, self.upstream = self.upstream, None
        if upstream is not None and not complete:
            upstream.abandon()
        self.try_deadline = inf
        if retry.per_try_idle_timeout:
            self.idle_timeout = self._stream_idle_timeout()
        self.park(self._retries.pause(self.attempts, reset_after), self._try)
        return True

    def timed_out(self, failure: Failure) -> None:
        """The sweep found that one of the times has run out."""
        expired(self, failure)

    def _stream_idle_timeout(self) -> float:
        action = self.route.action if self.route is not None else None
        if type(action) is Forward and action.idle_timeout is not None:
            return action.idle_timeout
        return self.config.stream_idle_timeout

    def downstream_lost(self, flag: str = "DC", details: str = RESCUE[DownstreamClosed].details) -> None:
        """The client is gone, or has ended the stream: stop the upstream's work and write the log line."""
        self.add_flag(flag)
        self.details = details
        self.config.stats.downstream_rq_rx_reset += 1
        self.abandon_upstream()
        self.end()

    def let_go(self) -> None:
        """Release what is held upstream: the retry that counts, the connection, the place in the queue."""
        if self.throttle is not None:
            self.throttle.close()
        for mirror in self.mirrors:
            mirror.cancel()  # it will not get the rest of the body
        if self._retries is not None:
            self._retries.release()
        if self.upstream is not None:
            self.abandon_upstream()
        elif self.host is not None and not self._sent:
            self.host.cancel(self)
