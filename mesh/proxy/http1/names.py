"""Header names: which of them the proxy itself must understand, and what each raw name means."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from mesh.proxy.http1.errors import MalformedError

_LONGEST_KNOWN = 64
_LONGEST_SEEN, _MOST_SEEN = 512, 512  # of lines: a quarter of a megabyte at most
TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

# Marked request headers. The value is the key in `Head.marked`.
_REQUEST_MARKS: tuple[bytes, ...] = (
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"upgrade",
    b"te",
    b"expect",
    b"http2-settings",
    b"x-request-id",
    b"x-forwarded-proto",
    b"x-forwarded-for",
    b"user-agent",
    b"content-type",
    b"origin",
    b"x-envoy-internal",
    b"x-envoy-external-address",
    b"x-envoy-expected-rq-timeout-ms",
    b"x-envoy-upstream-rq-timeout-ms",
    b"x-envoy-upstream-rq-per-try-timeout-ms",
    b"x-envoy-max-retries",
    b"x-envoy-retry-on",
    b"x-envoy-retriable-status-codes",
    b"x-envoy-retriable-header-names",
    b"x-envoy-retry-grpc-on",
    b"x-envoy-upstream-alt-stat-name",
    b"x-envoy-hedge-on-per-try-timeout",
    b"x-envoy-force-trace",
    b"x-envoy-ip-tags",
    b"x-envoy-original-url",
    b"x-envoy-original-host",
    b"x-envoy-upstream-stream-duration-ms",
    b"x-envoy-upstream-rq-timeout-alt-response",
    b"x-envoy-decorator-operation",
    b"x-envoy-downstream-service-cluster",
    b"x-envoy-downstream-service-node",
    b"x-forwarded-client-cert",
    b"x-envoy-attempt-count",
    b"x-envoy-original-path",
    b"x-envoy-peer-metadata",
    b"x-envoy-peer-metadata-id",
    b"x-envoy-downstream-service-cluster",
    b"x-client-trace-id",
    b"x-b3-traceid",
    b"x-b3-spanid",
    b"x-b3-parentspanid",
    b"x-b3-sampled",
    b"x-b3-flags",
    b"b3",
    b"traceparent",
    b"tracestate",
    b"content-type",
)
# Of these a request has one line at most: what a client sends more than once is joined as it comes (Envoy's inline
# headers), so that matchers, filters, logs and the upstream all see the same value.
INLINE = frozenset(
    b"""accept accept-encoding access-control-request-headers access-control-request-method authorization cache-control
    cdn-loop content-encoding content-type grpc-accept-encoding grpc-timeout if-match if-modified-since if-none-match
    if-range if-unmodified-since origin pragma proxy-status referer user-agent via x-client-trace-id
    x-envoy-attempt-count x-envoy-decorator-operation x-envoy-downstream-service-cluster
    x-envoy-downstream-service-node x-envoy-external-address x-envoy-is-timeout-retry x-envoy-original-host
    x-envoy-original-path x-forwarded-client-cert x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto
    x-request-id""".split()
)
# The same of responses, for logs. Their lines go on as they came.
INLINE_IN_RESPONSES = frozenset(
    b"""access-control-allow-credentials access-control-allow-headers access-control-allow-methods
    access-control-allow-origin access-control-expose-headers access-control-max-age age cache-control content-encoding
    content-type date etag expires grpc-message grpc-status last-modified location proxy-status server vary via
    x-envoy-attempt-count x-envoy-degraded x-envoy-ratelimited""".split()
)
_RESPONSE_MARKS: tuple[bytes, ...] = (
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"upgrade",
    b"te",
    b"http2-settings",
    b"expect",
    b"server",
    b"date",
    b"x-envoy-upstream-service-time",
    b"x-envoy-attempt-count",
    b"x-envoy-ratelimited",
    b"grpc-status",
    b"x-envoy-decorator-operation",
)
# What only internal clients may say (Envoy's header sanitising).
INTERNAL = frozenset(
    (b"x-envoy-internal", b"x-envoy-upstream-rq-timeout-ms", b"x-envoy-upstream-rq-per-try-timeout-ms",
     b"x-envoy-max-retries", b"x-envoy-retry-on", b"x-envoy-retry-grpc-on", b"x-envoy-retriable-status-codes",
     b"x-envoy-retriable-header-names", b"x-envoy-expected-rq-timeout-ms", b"x-envoy-upstream-alt-stat-name",
     b"x-envoy-hedge-on-per-try-timeout", b"x-envoy-force-trace", b"x-envoy-ip-tags", b"x-envoy-original-url",
     b"x-envoy-upstream-stream-duration-ms", b"x-envoy-upstream-rq-timeout-alt-response")
)  # fmt: skip
# Hop-by-hop (RFC 9110 section 7.6.1): between two neighbours only.
HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te", b"http2-settings",
     b"expect")
)  # fmt: skip


_SPELLINGS = (bytes, bytes.title, bytes.upper)
# Headers whose values come again and again, from a client or from all: worth remembering what their lines mean. None of
# them is a secret.
_LASTING = frozenset(
    spell(name)
    for spell in _SPELLINGS
    for name in b"""accept accept-encoding accept-language cache-control connection content-type date host server
    user-agent vary x-envoy-expected-rq-timeout-ms x-envoy-peer-metadata x-envoy-peer-metadata-id
    x-envoy-upstream-service-time x-forwarded-proto""".split()
)


class Names:
    """What each raw header name means: its mark, or None. Bounded, so that a client cannot make it grow for ever.

    Lines of the names in `dropped` never go on: they are taken out while parsing, and only their values are kept.
    `seen` are sound lines of `lasting` names with mark and value: most that come are known by one look-up.
    """

    __slots__ = ("_capacity", "dropped", "known", "lasting", "marks", "seen")

    def __init__(self, marks: Collection[bytes], dropped: frozenset[bytes]) -> None:
        self.marks = frozenset(marks)
        self.dropped = dropped
        self.known: dict[bytes, bytes | None] = {}
        self._capacity = 1024
        self.lasting = _LASTING
        self.seen: dict[bytes, tuple[bytes | None, bytes]] = {}
        for mark in marks:
            for spell in _SPELLINGS:
                self.known[spell(mark)] = mark

    def learn(self, name: bytes) -> bytes | None:
        """The mark of a name that is not known yet. Raises MalformedError if it is no header name."""
        if not name or not TOKEN.issuperset(name):
            raise MalformedError("http1.codec_error")
        lower = name.lower()
        mark = lower if lower in self.marks else None
        if len(self.known) < self._capacity and len(name) <= _LONGEST_KNOWN:
            self.known[name] = mark
        return mark

    def remember(self, line: bytes, mark: bytes | None, value: bytes) -> None:
        """Keep what a sound line means, for when it comes again; all at once are forgotten when they are too many."""
        if len(line) <= _LONGEST_SEEN:
            if len(self.seen) >= _MOST_SEEN:
                self.seen.clear()
            self.seen[line] = mark, value


REQUEST_NAMES = Names({*_REQUEST_MARKS, *INLINE}, HOP | INTERNAL)
RESPONSE_NAMES = Names(_RESPONSE_MARKS, HOP | {b"server", b"x-envoy-upstream-service-time", b"x-envoy-attempt-count"})


# The lower-case names of headers that are kept in `Head.marked`.
MARKED = REQUEST_NAMES.marks | RESPONSE_NAMES.marks


def join_lines(lines: list[bytes], names: Collection[bytes], marked: dict[bytes, bytes]) -> list[bytes]:
    """The lines with one for each of `names`, where the first was, that has the whole of its value."""
    joined: list[bytes] = []
    left = set(names)
    for line in lines:
        name = line.partition(b":")[0]
        lower = name.lower()
        if lower not in names:
            joined.append(line)
        elif lower in left:
            left.remove(lower)
            joined.append(b"%b: %b" % (name, marked[lower]))
    return joined


def proper_case(lines: list[bytes]) -> list[bytes]:
    """Header lines with names as `Content-Type`: each letter after the start or a dash in upper case."""
    return [_proper_name(line.partition(b":")[0]) + line[line.index(b":") :] for line in lines]


@lru_cache(1024)
def _proper_name(name: bytes) -> bytes:
    return b"-".join(part[:1].upper() + part[1:] for part in name.split(b"-"))
