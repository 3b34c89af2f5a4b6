"""Where keys come from: given with the configuration, or fetched from the issuer and kept for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mesh.proxy.http.rescue import Failure
from mesh.proxy.http.retry import RetryPolicy
from mesh.proxy.http1.head import ResponseHead
from mesh.proxy.observe.counters import NamedCounters
from mesh.proxy.policy.jwt.keys import Jwks
from mesh.proxy.policy.jwt.token import FETCH_FAILED, JwtError
from mesh.proxy.upstream.async_client import AsyncRequest, own_head

if TYPE_CHECKING:
    from mesh.proxy.runtime import Worker

_HEADERS = ((b"user-agent", b"Go-browser"),)  # Envoy's: some issuers refuse who has none
# Told with the keys, or with why there are none.
Done = Callable[[Jwks | None, str], None]


class Local:
    """Keys of the configuration."""

    def __init__(self, jwks: Jwks) -> None:
        self._jwks = jwks

    def keys(self, worker: Worker, done: Done) -> Callable[[], None] | None:
        done(self._jwks, "")
        return None


class Remote:
    """Keys at a URI of a cluster, kept for `cache_s` seconds. One fetch serves all that wait for it.

    With `is_ahead` (`async_fetch`), a request that finds keys past three quarters of their time has them fetched anew,
    but does not wait.
    """

    def __init__(
        self, cluster: str, authority: bytes, path: bytes, *, timeout: float, cache_s: float,
        retry: RetryPolicy | None, is_ahead: bool, counters: NamedCounters,
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._authority = authority
        self._path = path
        self._timeout = timeout
        self._cache_s = cache_s
        self._retry = retry
        self._is_ahead = is_ahead
        self._counters = counters
        self._jwks: Jwks | None = None
        self._until = self._refresh_at = 0.0
        self._fetch: AsyncRequest | None = None
        self._waiting: dict[int, Done] = {}
        self._tickets = 0

    def keys(self, worker: Worker, done: Done) -> Callable[[], None] | None:
        """Tell `done` the keys, now or later; answers how to wait no longer."""
        now = time.monotonic()
        if self._jwks is not None and now < self._until:
            if self._is_ahead and now > self._refresh_at:
                self._start(worker)
            done(self._jwks, "")
            return None
        self._tickets += 1
        ticket = self._tickets
        self._waiting[ticket] = done
        self._start(worker)
        return lambda: self._leave(ticket)

    def _leave(self, ticket: int) -> None:
        self._waiting.pop(ticket, None)

    def _start(self, worker: Worker) -> None:
        if self._fetch is not None:
            return
        head = own_head(b"GET", self._path, self._authority, _HEADERS, self._timeout)
        self._fetch = AsyncRequest(
            worker, self._cluster, head,
            answered=self._answered, failed=self._failed, timeout=self._timeout, retry=self._retry,
        )  # fmt: skip
        self._fetch.send()

    def _answered(self, head: ResponseHead, body: bytes) -> None:
        if head.status != 200:
            self._end(None, FETCH_FAILED)
            return
        try:
            jwks = Jwks(body)
        except JwtError:
            self._end(None, FETCH_FAILED)
            return
        self._jwks = jwks
        now = time.monotonic()
        self._until = now + self._cache_s
        self._refresh_at = now + self._cache_s * 0.75
        self._end(jwks, "")

    def _failed(self, failure: Failure) -> None:
        self._end(None, FETCH_FAILED)

    def _end(self, jwks: Jwks | None, status: str) -> None:
        self._counters.count("jwks_fetch_success" if jwks is not None else "jwks_fetch_failed")
        self._fetch = None
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            done(jwks, status)
