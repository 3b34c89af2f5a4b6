"""The proxy's own requests on a cluster (Envoy's `AsyncClient`): what filters, mirrors and collectors ask with.

They take the way of any request: the cluster's balancer, the host's pool, circuit breakers, outlier detection and
statistics. Nothing here awaits or makes a task; what comes back is told by callbacks.

- `AsyncStream` is one request that may be sent and answered in pieces. Its `on_*` methods are there to be overridden.
- `AsyncRequest` is one whole request for one whole response, retried if its policy says so.

A callback may come before `start` has returned: a cluster that is not there fails at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from math import inf
from typing import TYPE_CHECKING

from mesh.proxy.http.rescue import (
    RESCUE,
    Failure,
    NoCluster,
    NoHealthyUpstream,
    Overflow,
    RequestTimedOut,
    ResponseTooLarge,
)
from mesh.proxy.http.retry import Retries, RetryPolicy
from mesh.proxy.http1.head import Head, RequestHead, ResponseHead
from mesh.proxy.http1.names import MARKED
from mesh.proxy.upstream.local_address import local_ip

if TYPE_CHECKING:
    from mesh.proxy.http.codec import RequestEncoder
    from mesh.proxy.runtime import Worker
    from mesh.proxy.upstream.cluster import Cluster
    from mesh.proxy.upstream.host import Host

RESPONSE_LIMIT = 32 * 1024 * 1024  # Envoy's: what is longer is no answer


def own_head(
    method: bytes, path: bytes, authority: bytes, headers: Iterable[tuple[bytes, bytes]] = (), timeout: float = 0.0
) -> RequestHead:
    """The head of a request of our own, marked as one as Envoy marks it; header names in lower case."""
    head = RequestHead(method, path, authority, [b"host: %b" % authority], {b"host": authority})
    for name, value in headers:
        head.lines.append(b"%b: %b" % (name, value))
        if name in MARKED:
            head.marked[name] = value
    mark_own(head, timeout)
    return head


def mark_own(head: RequestHead, timeout: float, *, says_from: bool = True) -> None:
    """Say that the request comes from the proxy itself and how long, in seconds, it waits (0: for ever).

    `says_from`: also from which address (x-forwarded-for).
    """
    head.set(b"x-envoy-internal", b"true")
    if says_from:
        forwarded = head.marked.get(b"x-forwarded-for")
        own = local_ip().encode()
        head.set(b"x-forwarded-for", b"%b,%b" % (forwarded, own) if forwarded else own)
    if timeout:
        head.lines.append(b"x-envoy-expected-rq-timeout-ms: %d" % (timeout * 1000))


class AsyncStream:
    """One request on `cluster` and its response. `timeout` in seconds, from `start` to the response's end; 0 for none.

    After `on_end` or `on_failure`, of which exactly one comes unless it is cancelled, nothing more is told, and what is
    still sent is dropped.
    """

    __slots__ = (
        "_pieces", "_request_done", "_timeout", "_trailers", "cluster", "cluster_name", "deadline", "has_head", "head",
        "host", "is_blocked", "is_over", "method", "started", "upstream", "worker",
    )  # fmt: skip

    def __init__(self, worker: Worker, cluster: str, head: RequestHead, timeout: float = 0.0) -> None:
        self.worker = worker
        self.cluster_name = cluster
        self.head = head
        self.method = head.method
        self.cluster: Cluster | None = None
        self.host: Host | None = None
        self.upstream: RequestEncoder | None = None
        self.is_over = False
        self.has_head = False  # of the response
        self.is_blocked = False  # the upstream takes no more for now: whoever sends on and on should wait
        self.started = 0.0
        self.deadline = inf
        self._timeout = timeout
        self._pieces: list[bytes] | None = None
        self._trailers: Head | None = None
        self._request_done = False

    @property
    def client_protocol(self) -> str:
        return "HTTP/1.1"

    # What it is told

    def on_head(self, head: ResponseHead) -> None:
        """The response's head."""

    def on_payload(self, payload: bytes) -> None:
        """A piece of the response's body."""

    def on_trailers(self, trailers: Head) -> None:
        """The response's trailers; `on_end` follows."""

    def on_end(self) -> None:
        """The response is complete."""

    def on_failure(self, failure: Failure) -> None:
        """There will be no complete response."""

    def on_unblocked(self) -> None:
        """The upstream takes more again."""

    def tries_again(self, failure: Failure) -> bool:
        """Whether there is another try, so that nothing is told of this one."""
        return False

    # The request

    def start(self, body: bytes | None = None, done: bool = True) -> None:
        """Pick a host and send the head with what there is of the body; None if it has none."""
        self.is_over = self.has_head = False
        self._pieces = None if body is None else [body] if body else []
        self._request_done = done
        cluster = self.cluster = self.worker.runtime.clusters.get(self.cluster_name)
        if cluster is None:
            self._fail(NoCluster())
            return
        self.started = time.monotonic()
        if self._timeout:
            self.deadline = self.started + self._timeout
            self.worker.deadlines.add(self)
        host = self.host = cluster.pick()
        if host is None:
            cluster.stats.upstream_cx_none_healthy += 1
            cluster.stats.codes.count(RESCUE[NoHealthyUpstream].status)
            self._fail(NoHealthyUpstream())
            return
        try:
            host.pool.request(self)
        except Overflow as overflow:
            cluster.stats.codes.count(RESCUE[Overflow].status)
            self._fail(overflow)

    def send_payload(self, payload: bytes, done: bool) -> None:
        """More of the request's body, kept until there is a connection: whoever sends much waits for `upstream`."""
        if self.is_over:
            return
        self._request_done = done
        if self.upstream is not None:
            self.upstream.send_payload(payload, done)
        elif payload:
            assert self._pieces is not None
            self._pieces.append(payload)

    def send_trailers(self, trailers: Head) -> None:
        """The request ends with these."""
        if self.is_over:
            return
        self._request_done = True
        self._trailers = trailers
        if self.upstream is not None:
            self.upstream.send_trailers(trailers)

    def cancel(self) -> None:
        """Give it up; nothing more is told."""
        if not self.is_over:
            self._release()

    # Told by pool and codec: see `codec.Requester`

    def upstream_ready(self, upstream: RequestEncoder) -> None:
        self.upstream = upstream
        pieces, self._pieces = self._pieces, None
        trailers = self._trailers
        upstream.send_request(self.head, pieces, self._request_done and trailers is None)
        if trailers is not None and self.upstream is upstream:
            upstream.send_trailers(trailers)

    def informational_received(self, head: ResponseHead) -> None:
        """Of no use to us."""

    def response_received(self, head: ResponseHead, payload: bytes, done: bool) -> None:
        cluster = self.cluster
        assert cluster is not None
        self._host_answered(head.status)
        cluster.stats.codes.count(head.status)
        self.has_head = True
        cluster.stats.upstream_rq_time.record((time.monotonic() - self.started) * 1e3)
        self.on_head(head)
        if not self.is_over:
            self.payload_received(payload, done)

    def _host_answered(self, status: int) -> None:
        cluster, host = self.cluster, self.host
        assert cluster is not None
        assert host is not None
        if cluster.outlier is not None:
            cluster.outlier.responded(host.health, status)
        if status >= 500:
            host.rq_error += 1
        else:
            host.rq_success += 1

    def payload_received(self, payload: bytes, done: bool) -> None:
        if payload:
            self.on_payload(payload)
        if done and not self.is_over:
            self._complete()

    def trailers_received(self, trailers: Head) -> None:
        self.on_trailers(trailers)
        if not self.is_over:
            self._complete()

    def upstream_failed(self, failure: Failure) -> None:
        if self.is_over:
            return
        cluster, host = self.cluster, self.host
        assert cluster is not None
        status = RESCUE[type(failure)].status
        if type(failure) is not Overflow and host is not None:
            host.rq_error += 1
            if cluster.outlier is not None and not self.has_head:
                cluster.outlier.failed_locally(host.health, status)
        self._release()
        if self.tries_again(failure):
            return
        if type(failure) is not Overflow and not self.has_head:
            cluster.stats.codes.count(status)
        self.on_failure(failure)

    def upstream_blocked(self) -> None:
        self.is_blocked = True

    def upstream_unblocked(self) -> None:
        self.is_blocked = False
        self.on_unblocked()

    # Inner workings

    def deadline_passed(self, now: float) -> None:
        """The sweep's call: there was no response in time."""
        assert self.cluster is not None
        self.cluster.stats.upstream_rq_timeout += 1
        if self.host is not None:
            self.host.rq_timeout += 1
        self.upstream_failed(RequestTimedOut())

    def _complete(self) -> None:
        self.upstream = None  # it is back in its pool
        self._end()
        self.on_end()

    def _fail(self, failure: Failure) -> None:
        self._release()
        self.on_failure(failure)

    def _release(self) -> None:
        """Give back what is held: the connection, or the place among those that wait for one."""
        self._end()
        upstream, self.upstream = self.upstream, None
        if upstream is None:
            if self.host is not None:
                self.host.pool.cancel(self)
        elif upstream.caller is self:
            upstream.abandon()

    def _end(self) -> None:
        self.is_over = True
        self.deadline = inf
        self.worker.deadlines.discard(self)


class AsyncRequest(AsyncStream):
    """A whole request for a whole response, which is at most `RESPONSE_LIMIT` bytes long.

    `answered` gets the head and the body, `failed` why there is none. With a retry policy the timeout is each try's.
    """

    __slots__ = ("_answered", "_attempts", "_body", "_failed", "_received", "_retries", "_retry", "_size", "response")

    def __init__(
        self,
        worker: Worker,
        cluster: str,
        head: RequestHead,
        *,
        answered: Callable[[ResponseHead, bytes], None],
        failed: Callable[[Failure], None],
        body: bytes | None = None,
        timeout: float = 0.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        AsyncStream.__init__(self, worker, cluster, head, timeout)
        self._answered = answered
        self._failed = failed
        self._body = body
        self._received: list[bytes] = []
        self._size = 0
        self._retry = retry
        self._retries: Retries | None = None
        self._attempts = 0
        self.response: ResponseHead | None = None

    def send(self) -> None:
        """Send it; once."""
        self._attempts += 1
        self.response = None
        self._received.clear()
        self._size = 0
        self.start(self._body)

    def cancel(self) -> None:
        if self._retries is not None:
            self._retries.release()
        super().cancel()

    def response_received(self, head: ResponseHead, payload: bytes, done: bool) -> None:
        cluster = self.cluster
        assert cluster is not None
        if self._retry is not None and self._retry.wants_response(head) and self._may_try_again():
            self._host_answered(head.status)
            cluster.stats.retry_codes.count(head.status)
            if done:
                self.upstream = None  # it is back in its pool
            self._release()
            self._wait()
            return
        if self._attempts > 1 and head.status < 500:
            cluster.stats.upstream_rq_retry_success += 1
        AsyncStream.response_received(self, head, payload, done)

    def on_head(self, head: ResponseHead) -> None:
        self.response = head

    def on_payload(self, payload: bytes) -> None:
        self._size += len(payload)
        if self._size > RESPONSE_LIMIT:
            self._fail(ResponseTooLarge())
        else:
            self._received.append(payload)

    def on_end(self) -> None:
        head = self.response
        assert head is not None
        self._let_go()
        self._answered(head, b"".join(self._received))

    def tries_again(self, failure: Failure) -> bool:
        retry = self._retry
        if retry is None or not retry.wants_failure(failure, self.has_head) or not self._may_try_again():
            return False
        self._wait()
        return True

    def on_failure(self, failure: Failure) -> None:
        self._let_go()
        self._failed(failure)

    def _may_try_again(self) -> bool:
        """Claim one more try."""
        assert self._retry is not None
        assert self.cluster is not None
        if self._retries is None:
            self._retries = Retries(self.cluster, self._retry)
        return not self._retries.claim(self.host)

    def _wait(self) -> None:
        """Until the back-off is over."""
        assert self._retries is not None
        self.is_over = False  # while it waits it can still be cancelled
        self.host = None
        self.deadline = time.monotonic() + self._retries.pause(self._attempts, None)
        self.worker.deadlines.add(self)

    def deadline_passed(self, now: float) -> None:
        if self.host is None:  # the back-off is over
            self.worker.deadlines.discard(self)
            self.deadline = inf
            self.send()
        else:
            super().deadline_passed(now)

    def _let_go(self) -> None:
        if self._retries is not None:
            self._retries.release()
