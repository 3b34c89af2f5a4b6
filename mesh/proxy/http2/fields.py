"""Header fields as the decoder gives them: judged once when they are first seen, then shared by every message.

A `Field` is what the decoder's tables hold. Its `kind` says what a head does with it (RFC 9113 sections 8.2 and 8.3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mesh.proxy.http1.names import REQUEST_NAMES, RESPONSE_NAMES, Names

PLAIN = 0  # goes on as it is
MARKED = 1  # goes on, and is known by name
DROPPED = 2  # known by name, but does not go on
PSEUDO = 3
COOKIE = 4
MALFORMED = 5  # its message is malformed

_NAME = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_FORBIDDEN = bytes(c for c in (*range(0x20), 0x7F) if c != 0x09)
_PSEUDO = {
    True: frozenset((b":method", b":scheme", b":authority", b":path", b":protocol")),
    False: frozenset((b":status",)),
}
CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)  # RFC 9113 section 8.2.2


class Field(NamedTuple):
    """One field. `line` is what a head's `lines` get; `size` is the entry's size in a table (RFC 7541 section 4.1)."""

    kind: int
    line: bytes
    mark: bytes
    value: bytes
    name: bytes
    size: int


Judge = Callable[[bytes, bytes], Field]


def request_field(name: bytes, value: bytes) -> Field:
    """A field of a request."""
    kind = _request_kinds.get(name)
    if kind is None:
        kind = _learn(name, _request_kinds, REQUEST_NAMES, is_request=True)
    return _field(kind, name, value)


def response_field(name: bytes, value: bytes) -> Field:
    """A field of a response."""
    kind = _response_kinds.get(name)
    if kind is None:
        kind = _learn(name, _response_kinds, RESPONSE_NAMES, is_request=False)
    return _field(kind, name, value)


_MOST_KNOWN = 1024
_request_kinds: dict[bytes, int] = {}
_response_kinds: dict[bytes, int] = {}


def _field(kind: int, name: bytes, value: bytes) -> Field:
    if len(value.translate(None, _FORBIDDEN)) != len(value) or (name == b"te" and value != b"trailers"):
        kind = MALFORMED
    elif kind in _TRIMMED and (value[:1] in _BLANKS or value[-1:] in _BLANKS):
        value = value.strip(b" \t")  # nghttp2 lets blanks around a value pass, and Envoy passes them on
    return Field(kind, b"%b: %b" % (name, value), name, value, name, len(name) + len(value) + 32)


_TRIMMED = (MARKED, DROPPED, COOKIE)
_BLANKS = (b" ", b"\t")


def _learn(name: bytes, kinds: dict[bytes, int], names: Names, *, is_request: bool) -> int:
    kind = _kind(name, names, is_request=is_request)
    if len(kinds) < _MOST_KNOWN and len(name) <= 64:
        kinds[name] = kind
    return kind


def _kind(name: bytes, names: Names, *, is_request: bool) -> int:
    if name[:1] == b":":
        return PSEUDO if name in _PSEUDO[is_request] else MALFORMED
    if not name or not _NAME.issuperset(name) or name in CONNECTION_SPECIFIC:
        return MALFORMED
    if name == b"te":
        return PLAIN if is_request else MALFORMED  # the one value that it may have goes on: gRPC asks for it
    if name == b"cookie" and is_request:
        return COOKIE
    if name not in names.marks:
        return PLAIN
    return DROPPED if name in names.dropped else MARKED
