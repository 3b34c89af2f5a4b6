"""From bytes to message heads, strictly (RFC 9112 sections 2 to 5): what is ambiguous or malformed is refused."""

from __future__ import annotations

import re
from ipaddress import IPv6Address

from mesh.proxy.http1.errors import (
    HeadTooLargeError,
    MalformedError,
    NotRoutableError,
    PathRefusedError,
    VersionRefusedError,
)
from mesh.proxy.http1.head import RequestHead, ResponseHead
from mesh.proxy.http1.names import INLINE, REQUEST_NAMES, RESPONSE_NAMES, Names, join_lines

MAX_HEAD = 60 * 1024  # Envoy's default max_request_headers_kb
MAX_HEADERS = 100  # Envoy's default max_headers_count
CONTROLS = bytes(c for c in (*range(0x20), 0x7F) if c != 0x09)
_TAB, _HASH = b"\t#"  # `in` finds a number in bytes at an eighth of the cost of a letter
_SINGLE = frozenset((b"host", b"content-length"))
METHODS = frozenset(
    b"GET POST PUT DELETE HEAD OPTIONS PATCH TRACE ACL BIND CHECKOUT COPY LINK LOCK MERGE MKACTIVITY "
    b"MKCALENDAR MKCOL MOVE MSEARCH M-SEARCH NOTIFY PROPFIND PROPPATCH PURGE REBIND REPORT SEARCH SOURCE SUBSCRIBE "
    b"UNBIND UNLINK UNLOCK UNSUBSCRIBE".split()
)


def parse_request(block: bytes, max_headers: int = MAX_HEADERS, default_host: bytes = b"") -> RequestHead:
    """Parse a request head, without its final empty line; one without Host is for `default_host`. Raises
    MalformedError.
    """
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
    if (method not in METHODS and not (method == b"CONNECT" and target[:1] != b"/")) or not target:
        raise MalformedError("http1.codec_error")
    if version != b"HTTP/1.1":
        if version[:5] != b"HTTP/" or len(version) != 8:
            raise MalformedError("http1.codec_error")
        raise VersionRefusedError("low_version")
    marked = _mark(lines, REQUEST_NAMES, max_headers)
    authority = marked.get(b"host")
    if b"connection" in marked:
        _check_connection(marked[b"connection"])
    if target[0] != 0x2F:
        target, authority = _other_form(method, target, authority, lines, marked)
    if authority is None:
        if not default_host:
            raise NotRoutableError("missing_host_header")
        authority = marked[b"host"] = default_host
        lines.append(b"host: %b" % default_host)
    if not target.isascii() or _TAB in target:
        raise MalformedError("http1.codec_error")
    if _HASH in target:
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
    return ResponseHead(status, reason, http_10, lines, _mark(lines, RESPONSE_NAMES, MAX_HEADERS))


_known_status_lines: dict[bytes, tuple[int, bytes, bool]] = {}


def _learn_status_line(line: bytes) -> tuple[int, bytes, bool]:
    """Status, reason phrase, and whether it is HTTP/1.0. Raises MalformedError."""
    version, code = line[:9], line[9:12]
    if version not in (b"HTTP/1.1 ", b"HTTP/1.0 ") or not code.isdigit() or line[12:13] not in (b" ", b""):
        raise MalformedError("http1.codec_error")
    status = int(code)
    if status < 100:
        raise MalformedError("http1.codec_error")
    read = status, line[13:], version == b"HTTP/1.0 "
    if len(_known_status_lines) < 256 and len(line) < 64:
        _known_status_lines[line] = read
    return read


def _mark(lines: list[bytes], names: Names, limit: int) -> dict[bytes, bytes]:
    if len(lines) > limit:
        raise HeadTooLargeError("http1.too_many_headers")
    marked: dict[bytes, bytes] = {}
    seen, known, dropped, lasting = names.seen, names.known, names.dropped, names.lasting
    taken: list[bytes] = []
    repeated: tuple[bytes, ...] = ()
    for line in lines:
        meaning = seen.get(line)
        if meaning is not None:
            mark, value = meaning
        else:
            name, colon, value = line.partition(b":")
            try:
                mark = known[name]
            except KeyError:
                mark = names.learn(name)
            if not colon:
                raise MalformedError("http1.codec_error")
            if mark is not None:
                value = value.strip()  # controls are refused already, so this strips spaces and tabs
            if name in lasting:
                names.remember(line, mark, value)
        if mark is not None:
            if mark in dropped:
                taken.append(line)
            if mark in marked:
                if mark in _SINGLE:
                    raise MalformedError("http1.codec_error")
                value = b"%b,%b" % (marked[mark], value)
                if mark in INLINE:
                    repeated += (mark,)
            marked[mark] = value
    for line in taken:
        lines.remove(line)
    if repeated and names is REQUEST_NAMES:
        lines[:] = join_lines(lines, repeated, marked)
    return marked


# What Connection may not declare hop-by-hop: whoever comes next relies on it (Envoy's sanitizeConnectionHeader).
_NEVER_LISTED = frozenset((b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"))


def _check_connection(value: bytes) -> None:
    for name in value.lower().split(b","):
        name = name.strip()
        if name in _NEVER_LISTED or name[:1] == b":":
            raise MalformedError("http1.connection_header_rejected")
        if name == b"host":  # Envoy removes it as it would any other, and then has no host
            raise NotRoutableError("missing_host_header")


# What of a URL is its host, and what may be one: a name, an address or an IPv6 address in brackets (Envoy).
_AFTER_HOST = re.compile(rb"([^/?]*)([/?]?)(.*)", re.DOTALL)
_HOST = re.compile(rb"(?:[A-Za-z0-9.-]+|\[([0-9A-Fa-f:.]+)\])(?::(\d{1,5}))?")


def _is_sound(authority: bytes) -> bool:
    found = _HOST.fullmatch(authority)
    if found is None or (found[2] is not None and int(found[2]) >= 65536):
        return False
    if found[1] is None:
        return True
    try:
        IPv6Address(found[1].decode())
    except ValueError:
        return False
    return True


def _other_form(
    method: bytes, target: bytes, authority: bytes | None, lines: list[bytes], marked: dict[bytes, bytes]
) -> tuple[bytes, bytes | None]:
    """Targets that are not a path: absolute (RFC 9112 section 3.2.2), authority and asterisk form."""
    if method == b"CONNECT":
        marked[b"upgrade"], marked[b"connection"] = b"connect", b"upgrade"  # it is one, in all but its headers
        return target, target
    if target == b"*" and method == b"OPTIONS":
        return target, authority
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        raise MalformedError("http1.codec_error")
    found_host = _AFTER_HOST.match(rest)
    assert found_host is not None  # it matches everything
    host, mark, path = found_host.groups()
    if not _is_sound(host):
        raise MalformedError("http1.codec_error")
    if mark == b"?":
        raise PathRefusedError("absolute_path_rejected")
    # The target's host stands over the Host header, which must then say the same to whoever comes next.
    lines[:] = [b"Host: %b" % host, *(line for line in lines if line[:5].lower() != b"host:")]
    marked[b"host"] = host
    marked[b":scheme"] = scheme.lower()
    return b"/" + path, host
