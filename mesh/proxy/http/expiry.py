"""What follows when one of an exchange's times has run out: the try ends, perhaps for another, or the request does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.proxy.http.rescue import (
    Failure,
    RequestIncomplete,
    RequestTimedOut,
    StreamIdle,
    StreamTooLong,
    TryIdle,
    TryTimedOut,
)

if TYPE_CHECKING:
    from mesh.proxy.http.exchange import Exchange

TIMES = frozenset((RequestTimedOut, TryTimedOut))
_OF_THE_STREAM = frozenset((StreamIdle, StreamTooLong, RequestIncomplete))


def expired(exchange: Exchange, failure: Failure) -> None:
    """Count the time that has run out, and end what had it."""
    if type(failure) is StreamIdle and _is_try_idle(exchange):
        assert exchange.cluster is not None
        exchange.cluster.stats.upstream_rq_per_try_idle_timeout += 1
        exchange.upstream_failed(TryIdle())
    elif type(failure) in _OF_THE_STREAM:
        if type(failure) is StreamIdle:
            exchange.config.stats.downstream_rq_idle_timeout += 1
        exchange.abandon_upstream()
        # Envoy blames the client while its request is incomplete, the upstream afterwards.
        exchange.fail(failure, 0 if exchange.request_done else 408)
    else:
        _end_try(exchange, failure)


def _end_try(exchange: Exchange, failure: Failure) -> None:
    assert exchange.cluster is not None
    if type(failure) is TryTimedOut:
        exchange.cluster.stats.upstream_rq_per_try_timeout += 1
    elif type(failure) is RequestTimedOut:
        exchange.cluster.stats.upstream_rq_timeout += 1
        exchange.retry = None
    if exchange.host is not None and exchange.has_met_host:
        exchange.host.rq_timeout += 1
    exchange.upstream_failed(failure)


def _is_try_idle(exchange: Exchange) -> bool:
    retry = exchange.retry
    return exchange.upstream is not None and retry is not None and exchange.idle_timeout == retry.per_try_idle_timeout
