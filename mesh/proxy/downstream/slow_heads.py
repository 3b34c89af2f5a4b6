"""How long a client may take for the head of a request, and what it is told when that time is over."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from mesh.proxy.http.rescue import RequestIncomplete, StreamIdle

if TYPE_CHECKING:
    from mesh.proxy.http.config import HttpConfig
    from mesh.proxy.http.exchange import Exchange


def head_limit(config: HttpConfig) -> float:
    """In seconds, `inf` for no limit. In Envoy a stream begins with its head's first byte, and so do its timeouts."""
    limits = (config.request_headers_timeout, config.request_timeout, config.stream_idle_timeout)
    return min((limit for limit in limits if limit), default=inf)


def answer_slow_head(exchange: Exchange) -> None:
    """Answer a request of which there is no head, by the timeout that ran out."""
    config, stats = exchange.config, exchange.config.stats
    limit = head_limit(config)
    if limit == config.request_headers_timeout:
        stats.downstream_rq_header_timeout += 1
        exchange.reply(408, b"request header timeout", "", "request_header_timeout")
    elif limit == config.request_timeout:
        stats.downstream_rq_timeout += 1
        exchange.fail(RequestIncomplete())
    else:
        stats.downstream_rq_idle_timeout += 1
        exchange.fail(StreamIdle(), 408)
