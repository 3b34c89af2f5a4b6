"""What passes between a client's stream and its upstream once they are joined: bodies, trailers and back-pressure.

The request's body is kept while there is no upstream or a retry may need it (`request_body`), and is copied to mirrors.
Where it goes, and whether once more, is decided by `Exchange`, which builds on this.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mesh.proxy.http.grpc import is_grpc
from mesh.proxy.http.mirror import end_mirrors
from mesh.proxy.http.stream import Stream
from mesh.proxy.http1.head import Head

if TYPE_CHECKING:
    from mesh.proxy.http.codec import RequestEncoder
    from mesh.proxy.http.mirror import Mirror
    from mesh.proxy.http.request_body import RequestBody
    from mesh.proxy.http.retry import RetryPolicy
    from mesh.proxy.upstream.cluster import Cluster


class Relay(Stream):
    """A stream that may have an upstream. `body` is None for a request without one; `retry` is the policy as far as it
    still holds; `mirrors` are those that still want the request's body.
    """

    __slots__ = ("awaits_handshake", "body", "cluster", "mirrors", "retry", "upstream")

    # Set by `Exchange`, whose constructor is the only one: one more call for each request would buy nothing.
    cluster: Cluster | None
    upstream: RequestEncoder | None
    body: RequestBody | None
    retry: RetryPolicy | None
    mirrors: tuple[Mirror, ...]
    awaits_handshake: bool  # a WebSocket's: until then nothing of the client's goes further

    # The request, from the client's codec

    def request_payload(self, payload: bytes, done: bool) -> None:
        """More of the request's body, straight to the upstream, or kept while there is none or a retry may need it."""
        body, upstream = self.body, None if self.awaits_handshake else self.upstream
        assert body is not None
        self.bytes_received += len(payload)
        self.idle_at = time.monotonic()
        if not body.keep(payload, self.buffer_limit):
            if upstream is None:
                if body.on_enough is None:
                    self.connection.block()
            else:
                body.kept = None
                self.give_up_retries()  # too large to send twice: this try is the last
                if self.cluster is not None:
                    self.cluster.stats.retry_or_shadow_abandoned += 1
        for mirror in self.mirrors:
            mirror.send_payload(payload, done)
        if done:
            self.mirrors = ()
            self._request_ended()
        if upstream is not None:
            upstream.send_payload(payload, done)
        else:
            body.came(done)

    def request_trailers(self, trailers: Head) -> None:
        """The request ends with these."""
        body, upstream = self.body, self.upstream
        assert body is not None
        body.trailers = trailers
        end_mirrors(self, trailers)
        self._request_ended()
        if upstream is not None:
            upstream.send_trailers(trailers)
        else:
            body.came(True)

    def collect_body(self, limit: int, then: Callable[[], None]) -> bool:
        body = self.body
        if body is None or self.request_done or body.size > limit:
            return False
        body.enough, body.on_enough = limit, then
        self.hold()
        return True

    @property
    def has_body(self) -> bool:
        return self.body is not None

    @property
    def request_body(self) -> bytes:
        body = self.body
        return b"".join(body.kept) if body is not None and body.kept is not None else b""

    def _request_ended(self) -> None:
        self.request_done = True
        self.request_ended = time.monotonic()
        if self.cluster is not None and not self.upgrade:
            self.start_route_timeout()
        retry = self.retry
        if retry is not None and retry.per_try_timeout and self.upstream is not None and self.response_head is None:
            self.start_try_timeout(retry.per_try_timeout)

    @property
    def buffer_limit(self) -> int:
        """How many bytes of the request's body are kept for retries and mirrors."""
        if self.route is not None and self.route.buffer_limit is not None:
            return self.route.buffer_limit
        return self.config.buffer_limit

    # The response, from the upstream's codec

    def payload_received(self, payload: bytes, done: bool) -> None:
        """More of the upstream's response body."""
        if done:
            # It is back in its pool, perhaps with a request of somebody else: our client must not hold it up.
            self.upstream = None
        if self.throttle is None:
            self.send_payload(payload, done)
        else:
            self.throttle.payload(payload, done)

    def trailers_received(self, trailers: Head) -> None:
        """The upstream's response ends with these."""
        self.upstream = None
        said, host = trailers.get(b"grpc-status"), self.host
        if said is not None and said != b"0" and host is not None and is_grpc(self.head):
            host.rq_success -= 1
            host.rq_error += 1
        if self.throttle is None:
            self.send_trailers(trailers)
        else:
            self.throttle.trailers(trailers)

    # For the router

    def give_up_retries(self) -> None:
        """The try under way is the last."""
        if self.retry is not None:
            self.retry = self.retry.without_retries()

    def abandon_upstream(self) -> None:
        """Stop what the upstream still does for this request."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abandon()

    # Flow control: each side waits for the other

    def client_blocked(self) -> None:
        if self.throttle is not None:
            self.throttle.is_stopped = True
        self.block_upstream()

    def client_unblocked(self) -> None:
        if self.throttle is not None:
            self.throttle.is_stopped = False
        self.unblock_upstream()

    def block_upstream(self) -> None:
        if self.upstream is not None:
            self.upstream.block()

    def unblock_upstream(self) -> None:
        if self.upstream is not None:
            self.upstream.unblock()

    def upstream_blocked(self) -> None:
        self.connection.block()

    def upstream_unblocked(self) -> None:
        self.connection.unblock()
