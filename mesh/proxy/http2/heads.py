"""From decoded fields to message heads, strictly (RFC 9113 section 8): what is malformed is refused as nghttp2 does."""

from __future__ import annotations

from mesh.proxy.http1.head import Head, RequestHead, ResponseHead
from mesh.proxy.http1.names import INLINE, join_lines
from mesh.proxy.http2.errors import MessageBroke, NotRoutable
from mesh.proxy.http2.fields import COOKIE, DROPPED, MALFORMED, PLAIN, PSEUDO, Field

INVALID_FIELD = "http2.invalid.header.field"
INVALID_MESSAGE = "http2.violation.of.messaging.rule"
WRONG_SIZE = "http2.remote_reset"  # Envoy's words where a body is not as long as content-length says
TOO_MANY = "http2.too_many_headers"
TOO_LARGE = "http2.header_list_size_too_large"
_SINGLE = frozenset((b"content-length", b"host"))
_MAX_LENGTH_DIGITS = 18
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_AUTHORITY = frozenset(b"!$%&'()*+,-.0123456789:;=ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz~")
_CONNECT = frozenset((b":method", b":authority"))
_MOST_KNOWN = 1024

_known_methods: set[bytes] = set()
_known_authorities: set[bytes] = set()


def request_head(fields: list[Field], *, allow_connect: bool) -> RequestHead:
    """A request's head. Raises MessageBroke, and NotRoutable for a path that is valid and yet cannot be routed."""
    pseudo, lines, marked, repeated = _collect(fields)
    if repeated:
        lines = join_lines(lines, INLINE.intersection(repeated), marked)
    method = pseudo.get(b":method")
    if method is None:
        raise MessageBroke(INVALID_MESSAGE)
    if method not in _known_methods:
        _learn(method, _TOKEN, _known_methods)
    authority = pseudo.get(b":authority")
    host = marked.get(b"host")
    if authority is None:
        authority = host
    elif host is not None:
        # Envoy routes by :authority, and sends nothing else on.
        lines = [line for line in lines if line[:5] != b"host:"]
    if authority is None:
        raise MessageBroke(INVALID_MESSAGE)
    if authority not in _known_authorities:
        _learn(authority, _AUTHORITY, _known_authorities)
    if b":authority" in pseudo:
        lines.insert(0, b"host: %b" % authority)
    marked[b"host"] = authority
    if method != b"CONNECT":
        target = _target(pseudo, method)
        marked[b":scheme"] = pseudo[b":scheme"].lower()
    elif b":protocol" in pseudo:
        method, target = _upgrade(pseudo, marked, allow_connect=allow_connect)
        marked[b":scheme"] = pseudo[b":scheme"].lower()
    elif pseudo.keys() == _CONNECT:
        target = authority  # RFC 9113 section 8.5
        marked[b"upgrade"], marked[b"connection"] = b"connect", b"upgrade"
    else:
        raise MessageBroke(INVALID_MESSAGE)
    head = RequestHead(method, target, authority, lines, marked)
    if target == b"*":
        raise NotRoutable(head, 404, "absolute_path_rejected")
    if b"#" in target:
        raise NotRoutable(head, 400, "path_normalization_failed")
    return head


def _target(pseudo: dict[bytes, bytes], method: bytes) -> bytes:
    try:
        target = pseudo[b":path"]
        if not pseudo[b":scheme"] or b":protocol" in pseudo:
            raise MessageBroke(INVALID_MESSAGE)
    except KeyError:
        raise MessageBroke(INVALID_MESSAGE) from None
    if target[:1] != b"/" and (target != b"*" or method != b"OPTIONS"):
        raise MessageBroke(INVALID_MESSAGE if target else INVALID_FIELD)
    if b" " in target or b"\t" in target:
        raise MessageBroke(INVALID_FIELD)
    return target


def _upgrade(pseudo: dict[bytes, bytes], marked: dict[bytes, bytes], *, allow_connect: bool) -> tuple[bytes, bytes]:
    """Method and target of an extended CONNECT (RFC 8441): what asks for an upgrade in HTTP/1 is the same to us."""
    if not allow_connect:
        raise MessageBroke(INVALID_FIELD)
    marked[b"upgrade"] = pseudo.pop(b":protocol")
    marked[b"connection"] = b"upgrade"
    return b"GET", _target(pseudo, b"GET")


def response_head(fields: list[Field]) -> ResponseHead:
    """A response's head, final or informational. Raises MessageBroke."""
    pseudo, lines, marked, _ = _collect(fields)
    status = pseudo.get(b":status", b"")
    if len(status) != 3 or not status.isdigit() or not 100 <= int(status) <= 599 or status == b"101":
        raise MessageBroke(INVALID_FIELD if status else INVALID_MESSAGE)
    return ResponseHead(int(status), b"", False, lines, marked)


def trailers(fields: list[Field]) -> Head:
    """The trailers of a message. Raises MessageBroke."""
    lines = []
    for field in fields:
        if field.kind in (PSEUDO, MALFORMED):
            raise MessageBroke(INVALID_FIELD)
        lines.append(field.line)
    return Head(lines, {})


def _collect(fields: list[Field]) -> tuple[dict[bytes, bytes], list[bytes], dict[bytes, bytes], list[bytes]]:
    """Pseudo headers by name, lines, marked values by name, and which of these came more than once."""
    pseudo: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    marked: dict[bytes, bytes] = {}
    crumbs: list[bytes] | None = None
    repeated: list[bytes] = []
    is_regular = False
    for kind, line, mark, value, _, _ in fields:
        if kind == PLAIN:
            lines.append(line)
            is_regular = True
            continue
        if kind == PSEUDO:
            if is_regular or mark in pseudo:
                raise MessageBroke(INVALID_FIELD)
            pseudo[mark] = value
            continue
        is_regular = True
        if kind == COOKIE:
            crumbs = [value] if crumbs is None else [*crumbs, value]
        elif kind == MALFORMED:
            raise MessageBroke(INVALID_FIELD)
        else:
            if kind != DROPPED:
                lines.append(line)
            if mark in marked:
                if mark in _SINGLE:
                    raise MessageBroke(INVALID_FIELD)
                value = b"%b,%b" % (marked[mark], value)
                repeated.append(mark)
            marked[mark] = value
    if crumbs is not None:
        # RFC 9113 section 8.2.3: crumbs are one header again before the message leaves HTTP/2.
        lines.append(b"cookie: %b" % b"; ".join(crumbs))
    return pseudo, lines, marked, repeated


def body_size(head: Head) -> int:
    """What content-length promises; -1 if there is none. Raises MessageBroke."""
    value = head.marked.get(b"content-length")
    if value is None:
        return -1
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        raise MessageBroke(INVALID_FIELD)
    return int(value)


def _learn(value: bytes, allowed: frozenset[int], known: set[bytes]) -> None:
    if not value or not allowed.issuperset(value):
        raise MessageBroke(INVALID_FIELD)
    if len(known) < _MOST_KNOWN and len(value) < 256:
        known.add(value)
