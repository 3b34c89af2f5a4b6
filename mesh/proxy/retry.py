"""Retries: what a route's policy wants tried again, and what one exchange has used of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.proxy.cluster import Cluster, Host
    from mesh.proxy.http1.head import ResponseHead

GRPC_CONDITIONS = {
    b"1": "cancelled", b"4": "deadline-exceeded", b"8": "resource-exhausted", b"13": "internal", b"14": "unavailable"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`envoy.config.route.v3.RetryPolicy`. `on` holds the conditions by name; times in seconds."""

    on: frozenset[str]
    count: int = 1
    per_try_timeout: float = 0.0
    statuses: frozenset[int] = frozenset()
    host_attempts: int = 1
    skips_tried_hosts: bool = False
    base: float = 0.025
    longest: float = 0.25

    def wants_response(self, head: ResponseHead) -> bool:
        """Whether this response is one to try again."""
        on, status = self.on, head.status
        if b"grpc-status" in head.marked and GRPC_CONDITIONS.get(head.marked[b"grpc-status"]) in on:
            return True
        if b"x-envoy-ratelimited" in head.marked:
            return "envoy-ratelimited" in on
        if status < 400 and not self.statuses:
            return False
        return (
            (status >= 500 and "5xx" in on)
            or (status in (502, 503, 504) and "gateway-error" in on)
            or (status == 409 and "retriable-4xx" in on)
            or (status in self.statuses and "retriable-status-codes" in on)
        )

    def wants_failure(self, is_connect: bool, response_started: bool) -> bool:
        """Whether a try that ended without response is one to repeat."""
        on = self.on
        if response_started:
            return False
        if "5xx" in on or "reset" in on or "gateway-error" in on or ("reset-before-request" in on and is_connect):
            return True
        return is_connect and "connect-failure" in on

    def back_off(self, attempt: int) -> float:
        """Seconds before retry number `attempt` (from 1): full jitter over an exponential ceiling."""
        return random.random() * min(self.base * (2**attempt - 1), self.longest)


class Retries:
    """What an exchange has used of its policy. Made when its first try failed: most never need one."""

    __slots__ = ("_cluster", "_is_held", "_left", "tried")

    def __init__(self, cluster: Cluster, count: int) -> None:
        self._cluster = cluster
        self._left = count
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
        stats.upstream_rq_retry_backoff_exponential += 1
        if host is not None:
            self.tried.append(host)
        return ""

    def release(self) -> None:
        """A retry counts against max_retries until its outcome is known, which is now."""
        if self._is_held:
            self._is_held = False
            self._cluster.stats.retries_active -= 1
