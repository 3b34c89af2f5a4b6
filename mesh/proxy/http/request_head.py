"""The request's head on its way through: what the client may say to us, where the request goes, under which name.

Functions of a stream or its head. What every request needs is in `Stream`; what is here runs when a header or
the route asks for it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from mesh.proxy.http.grpc import is_grpc, write_timeout
from mesh.proxy.http.retry import RetryPolicy
from mesh.proxy.http1.head import RequestHead, ResponseHead
from mesh.proxy.http1.names import HOP, INTERNAL
from mesh.proxy.http1.upgrade import is_upgrade, restore

if TYPE_CHECKING:
    from mesh.proxy.http.route import Forward
    from mesh.proxy.http.stream import Stream

# What only proxies of our own may say: an edge takes it from nobody.
_OF_THE_MESH = frozenset(
    (b"x-envoy-decorator-operation", b"x-envoy-downstream-service-cluster", b"x-envoy-downstream-service-node",
     b"x-envoy-original-host", b"x-envoy-original-path")
)  # fmt: skip
_STATUS = re.compile(rb"\d{1,3}")
_TOO_LONG = 20  # digits of a number that may not fit into 64 bits
# The part of this process in its request ids: version 4, variant 10 (RFC 9562 section 5.4), and where it counts from.
_OURS = b"-%04x-4%03x-%04x-" % (random.getrandbits(16), random.getrandbits(12), random.getrandbits(14) | 0x8000)
_next = count(random.getrandbits(47)).__next__
_random_bits = random.getrandbits
_HOP_BUT_UPGRADE = HOP - {b"connection", b"upgrade"}
_CONTINUE = ResponseHead(100, b"", False, [], {})


def new_request_id() -> bytes:
    """A UUID in the form of version 4. It must be unique, not secret, so most of it is drawn once and the rest counted;
    the first eight digits are random in each, because sampling decisions are made by them.
    """
    return b"%08x%b%012x" % (_random_bits(32), _OURS, _next())


def clean(stream: Stream) -> None:
    """Look at what was taken off the head: what the client says to us, and may it say so."""
    head, config = stream.head, stream.config
    marked = head.marked
    if not HOP.isdisjoint(marked):
        _clean_hop(stream, head)
    if config.sanitizes_client_cert and b"x-forwarded-client-cert" in marked:
        head.remove((b"x-forwarded-client-cert",))
    if config.is_internal(head, stream.connection):
        head.set(b"x-envoy-internal", b"true")
        return
    if not INTERNAL.isdisjoint(marked):
        for name in INTERNAL & marked.keys():
            del marked[name]
    if config.use_remote_address:
        if not _OF_THE_MESH.isdisjoint(marked):
            head.remove(_OF_THE_MESH)
        if not config.preserve_external_request_id:
            head.take(b"x-request-id")


def _clean_hop(stream: Stream, head: RequestHead) -> None:
    """What the client says of its connection to us, and what it wants to be told on it."""
    marked = head.marked
    connection = marked.get(b"connection")
    if connection is not None:
        if b"close" in connection.lower():
            stream.connection.will_close = True
        if listed := listed_headers(connection):
            head.remove(listed)
    if marked.get(b"proxy-connection", b"").lower() == b"close":
        stream.connection.will_close = True
    if b"upgrade" in marked and is_upgrade(head):
        stream.upgrade = marked[b"upgrade"].lower()
        restore(head)
    expected = marked.get(b"expect")
    if expected is not None and expected.lower() == b"100-continue" and not stream.config.proxy_100_continue:
        stream.connection.send_informational(_CONTINUE)
        expected = None
    _forget_hop(head, stream.upgrade, expected)


def _forget_hop(head: RequestHead, upgrade: bytes, expected: bytes | None) -> None:
    """What was said to us alone is not there for matchers, filters and logs either; what goes on is."""
    marked = head.marked
    codings = marked.get(b"te")
    for name in (_HOP_BUT_UPGRADE if upgrade else HOP) & marked.keys():
        del marked[name]
    if codings is not None and b"trailers" in [coding.strip() for coding in codings.split(b",")]:
        head.add(b"te", b"trailers")
    if expected is not None:
        head.add(b"expect", expected)


def listed_headers(connection: bytes) -> set[bytes]:
    """The header names that a Connection header lists, which are as hop-by-hop as itself."""
    return {name.strip() for name in connection.lower().split(b",")} - {b"close", b"keep-alive", b"te", b"upgrade", b""}


def limits(head: RequestHead, action: Forward) -> tuple[float, RetryPolicy | None, bytes | None]:
    """Timeout, retry policy and the line that tells the timeout, where not the route alone decides: for an internal
    client's headers, and gRPC's deadlines.
    """
    timeout, retry = action.timeout, action.retry
    heeds_deadline = action.grpc_timeout is not None and is_grpc(head)
    if heeds_deadline and action.grpc_timeout is not None:
        timeout = action.grpc_timeout(head)
    if b"x-envoy-internal" in head.marked:
        timeout, retry = steered(head, timeout, retry)
    if heeds_deadline and timeout:
        write_timeout(head, timeout)
    return timeout, retry, expected_timeout(timeout, retry)


def steered(head: RequestHead, timeout: float, policy: RetryPolicy | None) -> tuple[float, RetryPolicy | None]:
    """Timeout and retry policy as an internal client's headers want them."""
    marked = head.marked
    wanted = number(marked.get(b"x-envoy-upstream-rq-timeout-ms"))
    if wanted is not None:
        timeout = wanted / 1000
    before = policy or RetryPolicy(frozenset())
    on = b"%b,%b" % (marked.get(b"x-envoy-retry-on", b""), marked.get(b"x-envoy-retry-grpc-on", b""))
    codes = marked.get(b"x-envoy-retriable-status-codes", b"").split(b",")
    per_try = number(marked.get(b"x-envoy-upstream-rq-per-try-timeout-ms"))
    count = number(marked.get(b"x-envoy-max-retries"))
    after = replace(
        before,
        on=before.on | {name.strip() for name in on.decode("latin-1").split(",") if name.strip()},
        statuses=before.statuses | {int(code) for code in codes if _STATUS.fullmatch(code.strip())},
        headers=before.headers + _present(marked.get(b"x-envoy-retriable-header-names")),
        per_try_timeout=before.per_try_timeout if per_try is None else per_try / 1000,
        count=before.count if count is None else count,
    )
    return timeout, after if after.on or after.per_try_timeout else policy


def _present(names: bytes | None) -> tuple[Callable[[ResponseHead], bool], ...]:
    """That a response has one of the headers which an internal client names."""
    if not names:
        return ()
    wanted = [name.strip().lower() for name in names.split(b",")]
    return (lambda head: any(head.get(name) is not None for name in wanted),)


def number(value: bytes | None) -> int | None:
    """A decimal number that fits into 64 bits, as Envoy reads it."""
    return int(value) if value is not None and value.isdigit() and len(value) < _TOO_LONG else None


def expected_timeout(timeout: float, policy: RetryPolicy | None) -> bytes | None:
    """The header line that tells the upstream how long it has, in milliseconds; None if it has for ever."""
    if not timeout:
        return None
    per_try = policy.per_try_timeout if policy is not None else 0.0
    return b"x-envoy-expected-rq-timeout-ms: %d" % ((per_try if 0 < per_try < timeout else timeout) * 1000)


def rewrite(head: RequestHead, action: Forward, host: bytes | None, *, tells: bool = True) -> None:
    """Host and path as the route wants them; `host` is what the weighted cluster wants. Whether it `tells` what the
    path was is for the router's options to say.
    """
    if host is None and action.host_rewrite is not None:
        host = action.host_rewrite(head)
    if host:
        rewrite_host(head, host, action.append_x_forwarded_host)
    if action.rewrite_path is not None:
        path, question, query = head.target.partition(b"?")
        new = action.rewrite_path(path) + question + query
        if new != head.target:
            if tells:
                head.set(b"x-envoy-original-path", head.target)
            head.target = new


def rewrite_host(head: RequestHead, host: bytes, keep: bool) -> None:
    """Another Host; the client's stays in x-forwarded-host if it is to be kept."""
    if keep and head.authority != host:
        head.add(b"x-forwarded-host", head.authority)
    put_host(head, host)


def put_host(head: RequestHead, host: bytes) -> None:
    """The request is for this host; `Host` comes first, as RFC 9110 section 7.2 asks for."""
    head.put_first(b"host", host)
    head.authority = host
