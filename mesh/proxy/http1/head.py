"""Message heads: strict parsing, and lookups that cost only when somebody asks.

A head keeps the header lines as they came. Names that the proxy itself must understand are *marked* while parsing
(one dictionary look-up a line); every other header is found by search when a matcher or a log format asks for it.
Lines that are not edited are forwarded byte for byte, so the common message is one split and one join.
"""

from __future__ import annotations

from collections.abc import Collection

MAX_HEAD = 60 * 1024  # Envoy's default max_request_headers_kb
_LONGEST_KNOWN = 64
MAX_HEADERS = 100  # Envoy's default max_headers_count

_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
CONTROLS = bytes(c for c in (*range(0x20), 0x7F) if c != 0x09)
_METHODS = frozenset(
    b"GET POST PUT DELETE HEAD OPTIONS PATCH TRACE CONNECT ACL BIND CHECKOUT COPY LINK LOCK MERGE MKACTIVITY "
    b"MKCALENDAR MKCOL MOVE MSEARCH M-SEARCH NOTIFY PROPFIND PROPPATCH PURGE REBIND REPORT SEARCH SOURCE SUBSCRIBE "
    b"UNBIND UNLINK UNLOCK UNSUBSCRIBE".split()
)


class MalformedError(Exception):
    """Bytes that are not the HTTP/1.1 they should be. `details` is Envoy's response code detail."""

    status = 400

    def __init__(self, details: str) -> None:
        super().__init__(details)
        self.details = details


class HeadTooLargeError(MalformedError):
    """The head is over the limit, in bytes or in headers."""

    status = 431


class VersionRefusedError(MalformedError):
    """A version other than 1.1: Envoy refuses 1.0 unless told otherwise."""

    status = 426


class CodingRefusedError(MalformedError):
    """A transfer coding other than chunked."""

    status = 501


class NotRoutableError(MalformedError):
    """Well-formed, but without a host or with a path that cannot be routed. Envoy's reply has no body."""


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
    b"x-envoy-decorator-operation",
    b"x-envoy-attempt-count",
    b"x-envoy-original-path",
    b"x-envoy-peer-metadata",
    b"x-envoy-peer-metadata-id",
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
)
_SINGLE = frozenset((b"host", b"content-length"))
# What only internal clients may say (Envoy's header sanitising).
INTERNAL = frozenset(
    (b"x-envoy-internal", b"x-envoy-upstream-rq-timeout-ms", b"x-envoy-upstream-rq-per-try-timeout-ms",
     b"x-envoy-max-retries", b"x-envoy-retry-on", b"x-envoy-retry-grpc-on", b"x-envoy-retriable-status-codes",
     b"x-envoy-retriable-header-names", b"x-envoy-expected-rq-timeout-ms", b"x-envoy-upstream-alt-stat-name",
     b"x-envoy-hedge-on-per-try-timeout", b"x-envoy-force-trace", b"x-envoy-ip-tags", b"x-envoy-original-url")
)  # fmt: skip
# Hop-by-hop (RFC 9110 section 7.6.1): between two neighbours only.
HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te", b"http2-settings",
     b"expect")
)  # fmt: skip


class _Names:
    """What each raw header name means: its mark, or None. Bounded, so that a client cannot make it grow for ever.

    Lines of the names in `dropped` never go on: they are taken out while parsing, and only their values are kept.
    """

    __slots__ = ("_capacity", "dropped", "known", "marks")

    def __init__(self, marks: Collection[bytes], dropped: frozenset[bytes]) -> None:
        self.marks = frozenset(marks)
        self.dropped = dropped
        self.known: dict[bytes, bytes | None] = {}
        self._capacity = 1024
        for mark in marks:
            for spelling in (mark, mark.title(), mark.upper()):
                self.known[spelling] = mark

    def learn(self, name: bytes) -> bytes | None:
        """The mark of a name that is not known yet. Raises MalformedError if it is no header name."""
        if not name or not _TOKEN.issuperset(name):
            raise MalformedError("http1.codec_error")
        lower = name.lower()
        mark = lower if lower in self.marks else None
        if len(self.known) < self._capacity and len(name) <= _LONGEST_KNOWN:
            self.known[name] = mark
        return mark


_REQUEST_NAMES = _Names(_REQUEST_MARKS, HOP | INTERNAL)
_RESPONSE_NAMES = _Names(_RESPONSE_MARKS, HOP | {b"server", b"x-envoy-upstream-service-time", b"x-envoy-attempt-count"})


def is_marked(name: bytes) -> bool:
    """Whether a header of this lower-case name is kept in `Head.marked`."""
    return name in _REQUEST_NAMES.marks or name in _RESPONSE_NAMES.marks


class Head:
    """The headers of one message: `lines` as they came (no line ends), `marked` values by lower-case name.

    Lines that never go on (hop-by-hop and the like) are not in `lines`, but their values are in `marked`. A marked
    header that came more than once holds the values joined by a comma, as Envoy joins them.
    """

    __slots__ = ("_text", "lines", "marked")

    def __init__(self, lines: list[bytes], marked: dict[bytes, bytes]) -> None:
        self.lines = lines
        self.marked = marked
        self._text: tuple[bytes, bytes] | None = None

    def get(self, name: bytes) -> bytes | None:
        """The value of the header (`name` in lower case), several joined by a comma; None if it is absent."""
        value = self.marked.get(name)
        if value is not None:
            return value
        text = self._text
        if text is None:
            whole = b"\r\n%b\r\n" % b"\r\n".join(self.lines)
            text = self._text = (whole, whole.lower())
        whole, lower = text
        needle = b"\r\n%b:" % name
        at = lower.find(needle)
        if at < 0:
            return None
        start = at + len(needle)
        end = whole.index(b"\r\n", start)
        value = whole[start:end].strip(b" \t")
        at = lower.find(needle, end)
        return value if at < 0 else self._join(value, needle, at)

    def _join(self, value: bytes, needle: bytes, at: int) -> bytes:
        whole, lower = self._text or (b"", b"")
        values = [value]
        while at >= 0:
            start = at + len(needle)
            end = whole.index(b"\r\n", start)
            values.append(whole[start:end].strip(b" \t"))
            at = lower.find(needle, end)
        return b",".join(values)

    def remove(self, names: Collection[bytes]) -> None:
        """Drop every header whose lower-case name is in `names`."""
        self.lines = [line for line in self.lines if line.partition(b":")[0].lower() not in names]
        for name in names:
            self.marked.pop(name, None)
        self._text = None

    def take(self, name: bytes) -> bytes | None:
        """Remove a marked header and answer its value. Cheap for the usual spelling, as our own sidecars send it."""
        value = self.marked.pop(name, None)
        if value is None:
            return None
        self._text = None
        try:
            self.lines.remove(b"%b: %b" % (name, value))
        except ValueError:
            self.remove((name,))
        return value

    def add(self, name: bytes, value: bytes) -> None:
        """Add a header (`name` in lower case) after the others."""
        self.lines.append(b"%b: %b" % (name, value))
        if is_marked(name):
            before = self.marked.get(name)
            self.marked[name] = value if before is None else b"%b,%b" % (before, value)
        self._text = None

    def extend(self, lines: Collection[bytes]) -> None:
        """Append whole lines, whose names are not marked ones."""
        self.lines.extend(lines)
        self._text = None

    def set(self, name: bytes, value: bytes) -> None:
        """Put the header in the place of any of that name."""
        if self.get(name) is not None:
            self.remove((name,))
        self.add(name, value)

    def items(self) -> list[tuple[bytes, bytes]]:
        """All headers, lower-case name and value, in order."""
        pairs = (line.partition(b":") for line in self.lines)
        return [(name.lower(), value.strip(b" \t")) for name, _, value in pairs]


class RequestHead(Head):
    """`target` is the path and query as sent upstream; `authority` the host that the request is for."""

    __slots__ = ("authority", "method", "target")

    def __init__(
        self, method: bytes, target: bytes, authority: bytes, lines: list[bytes], marked: dict[bytes, bytes]
    ) -> None:
        self.lines = lines
        self.marked = marked
        self._text = None
        self.method = method
        self.target = target
        self.authority = authority


class ResponseHead(Head):
    __slots__ = ("http_10", "reason", "status")

    def __init__(
        self, status: int, reason: bytes, http_10: bool, lines: list[bytes], marked: dict[bytes, bytes]
    ) -> None:
        self.lines = lines
        self.marked = marked
        self._text = None
        self.status = status
        self.reason = reason
        self.http_10 = http_10


def parse_request(block: bytes, max_headers: int = MAX_HEADERS) -> RequestHead:
    """Parse a request head, without its final empty line. Raises MalformedError."""
    lines = block.split(b"\r\n")
    # One pass finds every bare CR, bare LF, NUL and other control character: only the CRLFs between lines may go.
    if len(block) - len(block.translate(None, CONTROLS)) != 2 * len(lines) - 2:
        raise MalformedError("http1.codec_error")
    start = lines.pop(0)
    try:
        method, target, version = start.split(b" ")
    except ValueError:
        if start.count(b" ") == 1:
            raise VersionRefusedError("low_version") from None  # HTTP/0.9 had no version in its request line
        raise MalformedError("http1.codec_error") from None
    if method not in _METHODS or not target:
        raise MalformedError("http1.codec_error")
    if version != b"HTTP/1.1":
        if version[:5] != b"HTTP/" or len(version) != 8:
            raise MalformedError("http1.codec_error")
        raise VersionRefusedError("low_version")
    marked = _mark(lines, _REQUEST_NAMES, max_headers)
    authority = marked.get(b"host")
    if target[0] != 0x2F:
        target, authority = _other_form(method, target, authority, lines, marked)
    if authority is None:
        raise NotRoutableError("missing_host_header")
    if not target.isascii() or b"\t" in target:
        raise MalformedError("http1.codec_error")
    if b"#" in target:
        raise NotRoutableError("path_normalization_failed")
    if authority not in _known_authorities:
        _learn_authority(authority)
    return RequestHead(method, target, authority, lines, marked)


_known_authorities: set[bytes] = set()
_AUTHORITY = frozenset(b"!$%&'()*+,-.0123456789:;=ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz~@")


def _learn_authority(authority: bytes) -> None:
    if not _AUTHORITY.issuperset(authority):
        raise MalformedError("http1.codec_error")
    if len(_known_authorities) < 1024 and len(authority) < 256:
        _known_authorities.add(authority)


def parse_response(block: bytes) -> ResponseHead:
    """Parse a response head, without its final empty line. Raises MalformedError."""
    lines = block.split(b"\r\n")
    if len(block) - len(block.translate(None, CONTROLS)) != 2 * len(lines) - 2:
        raise MalformedError("http1.codec_error")
    start = lines.pop(0)
    try:
        status, reason, http_10 = _known_status_lines[start]
    except KeyError:
        status, reason, http_10 = _learn_status_line(start)
    return ResponseHead(status, reason, http_10, lines, _mark(lines, _RESPONSE_NAMES, MAX_HEADERS))


_known_status_lines: dict[bytes, tuple[int, bytes, bool]] = {}


def _learn_status_line(line: bytes) -> tuple[int, bytes, bool]:
    """Status, reason phrase, and whether it is HTTP/1.0. Raises MalformedError."""
    version, code = line[:9], line[9:12]
    if version not in (b"HTTP/1.1 ", b"HTTP/1.0 ") or not code.isdigit() or line[12:13] not in (b" ", b""):
        raise MalformedError("http1.codec_error")
    status = int(code)
    if not 100 <= status <= 599:
        raise MalformedError("http1.codec_error")
    read = status, line[13:], version == b"HTTP/1.0 "
    if len(_known_status_lines) < 256 and len(line) < 64:
        _known_status_lines[line] = read
    return read


def _mark(lines: list[bytes], names: _Names, limit: int) -> dict[bytes, bytes]:
    if len(lines) > limit:
        raise HeadTooLargeError("http1.too_many_headers")
    marked: dict[bytes, bytes] = {}
    known, dropped = names.known, names.dropped
    taken: list[bytes] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        try:
            mark = known[name]
        except KeyError:
            mark = names.learn(name)
        if not colon:
            raise MalformedError("http1.codec_error")
        if mark is not None:
            value = value.strip()  # controls are refused already, so this strips spaces and tabs
            if mark in dropped:
                taken.append(line)
            if mark in marked:
                if mark in _SINGLE:
                    raise MalformedError("http1.codec_error")
                value = b"%b,%b" % (marked[mark], value)
            marked[mark] = value
    for line in taken:
        lines.remove(line)
    return marked


def _other_form(
    method: bytes, target: bytes, authority: bytes | None, lines: list[bytes], marked: dict[bytes, bytes]
) -> tuple[bytes, bytes | None]:
    """Targets that are not a path: absolute (RFC 9112 section 3.2.2), authority and asterisk form."""
    if method == b"CONNECT":
        return target, target
    if target == b"*" and method == b"OPTIONS":
        return target, authority
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        raise MalformedError("http1.codec_error")
    host, slash, path = rest.partition(b"/")
    if not slash:
        host, question, query = rest.partition(b"?")
        path = question + query
    if not host or b"@" in host:
        raise MalformedError("http1.codec_error")
    # The target's host stands over the Host header, which must then say the same to whoever comes next.
    lines[:] = [b"Host: %b" % host, *(line for line in lines if line[:5].lower() != b"host:")]
    marked[b"host"] = host
    return b"/" + path, host
