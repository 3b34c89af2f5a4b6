"""Retries: what a route's policy wants tried again, and what one exchange has used of it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mesh.proxy.http.rescue import ConnectFailed, ConnectTimedOut, Failure, UpstreamRefused

if TYPE_CHECKING:
    from mesh.proxy.http1.head import RequestHead, ResponseHead
    from mesh.proxy.upstream.cluster import Cluster
    from mesh.proxy.upstream.host import Host

GRPC_CONDITIONS = {
    b"1": "cancelled", b"4": "deadline-exceeded", b"8": "resource-exhausted", b"13": "internal", b"14": "unavailable"
}  # fmt: skip
CONDITIONS = frozenset(
    ("5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream",
     "retriable-status-codes", "retriable-headers", "http3-post-connect-failure", "envoy-ratelimited")
)  # fmt: skip
_MANY_DOUBLINGS = 32


@dataclass(frozen=True, slots=True)
class ResetHeader:
    """A response header (lower case) that says when to come again: in how many seconds, or at which Unix time."""

    name: bytes
    is_timestamp: bool

    def seconds(self, head: ResponseHead) -> float | None:
        """How long to wait; None if the header is missing, no number, or not in the future."""
        text = head.get(self.name)
        if text is None or not text.isdigit() or len(text) > 19:
            return None
        left = int(text) - int(time.time()) if self.is_timestamp else int(text)
        return float(left) if left > 0 else None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`envoy.config.route.v3.RetryPolicy`. `on` holds the conditions by name; times in seconds.

    `host_attempts` is how often in all a host is picked for one retry while `unwanted` says no to it.
    """

    on: frozenset[str]
    count: int = 1
    per_try_timeout: float = 0.0
    per_try_idle_timeout: float = 0.0
    statuses: frozenset[int] = frozenset()
    headers: tuple[Callable[[ResponseHead], bool], ...] = ()
    request_headers: tuple[Callable[[RequestHead], bool], ...] = ()
    host_attempts: int = 2
    skips_tried_hosts: bool = False
    skips_canaries: bool = False
    base: float = 0.025
    longest: float = 0.25
    reset_headers: tuple[ResetHeader, ...] = ()
    longest_reset: float = 300.0

    def without_retries(self) -> RetryPolicy:
        """What is left of it, its timeouts, for a request that is not tried again."""
        return replace(self, on=frozenset())

    def concerns(self, head: RequestHead) -> bool:
        """Whether requests such as this one are retried at all (`retriable_request_headers`)."""
        return not self.request_headers or any(match(head) for match in self.request_headers)

    def wants_response(self, head: ResponseHead) -> bool:
        """Whether this response is one to try again."""
        on, status = self.on, head.status
        if b"x-envoy-ratelimited" in head.marked:
            return "envoy-ratelimited" in on
        if b"grpc-status" in head.marked and GRPC_CONDITIONS.get(head.marked[b"grpc-status"]) in on:
            return True
        if self.headers and "retriable-headers" in on and any(match(head) for match in self.headers):
            return True
        if status < 400 and not self.statuses:
            return False
        return (
            (status >= 500 and "5xx" in on)
            or (status in (502, 503, 504) and "gateway-error" in on)
            or (status == 409 and "retriable-4xx" in on)
            or (status in self.statuses and "retriable-status-codes" in on)
        )

    def wants_failure(self, failure: Failure, response_started: bool) -> bool:
        """Whether a try that ended without response is one to repeat."""
        on = self.on
        if response_started:
            return False
        is_connect = isinstance(failure, (ConnectFailed, ConnectTimedOut))
        if "5xx" in on or "reset" in on or "gateway-error" in on or ("reset-before-request" in on and is_connect):
            return True
        if isinstance(failure, UpstreamRefused) and "refused-stream" in on:
            return True
        return is_connect and "connect-failure" in on

    def reset_after(self, head: ResponseHead) -> float | None:
        """The wait that a response asks for (`rate_limited_retry_back_off`), in seconds; None if there is none."""
        for header in self.reset_headers:
            seconds = header.seconds(head)
            if seconds is not None and seconds <= self.longest_reset:
                return seconds
        return None

    def back_off(self, attempt: int) -> float:
        """Seconds before retry number `attempt` (from 1): full jitter over an exponential ceiling."""
        return random.random() * min(self.base * 2 ** min(attempt - 1, _MANY_DOUBLINGS), self.longest)


class Retries:
    """What an exchange has used of its policy. Made when its first try failed: most never need one."""

    __slots__ = ("_cluster", "_is_held", "_left", "_policy", "tried")

    def __init__(self, cluster: Cluster, policy: RetryPolicy) -> None:
        self._cluster = cluster
        self._policy = policy
        self._left = policy.count
        self._is_held = False
        self.tried: list[Host] = []

    def claim(self, host: Host | None) -> str:
        """Take one more retry after a try at `host`; empty, or the response flag that says why there is none."""
        stats = self._cluster.stats
        if self._left <= 0:
            stats.upstream_rq_retry_limit_exceeded += 1
            return "URX"
        self.release()
        if not self._cluster.breaker.may_retry():
            return "UO"
        self._left -= 1
        self._is_held = True
        stats.retries_active += 1
        stats.upstream_rq_retry += 1
        if host is not None:
            self.tried.append(host)
        return ""

    def pause(self, attempt: int, reset_after: float | None) -> float:
        """Seconds to wait before the retry that was claimed: as the response asked, or the policy's back-off."""
        stats = self._cluster.stats
        if reset_after is not None:
            stats.upstream_rq_retry_backoff_ratelimited += 1
            return reset_after * (1 + random.random() / 2)  # never earlier, and not all at once
        stats.upstream_rq_retry_backoff_exponential += 1
        return self._policy.back_off(attempt)

    def release(self) -> None:
        """A retry counts against max_retries until its outcome is known, which is now."""
        if self._is_held:
            self._is_held = False
            self._cluster.stats.retries_active -= 1

    def __contains__(self, host: object) -> bool:
        """Whether a host is to be passed over (`retry_host_predicate`), as far as picks go."""
        policy = self._policy
        return (policy.skips_tried_hosts and host in self.tried) or (
            policy.skips_canaries and getattr(host, "is_canary", False)
        )
