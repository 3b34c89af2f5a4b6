"""HPACK encoding (RFC 7541): header lines to blocks.

Each line is looked up as it came. A line that the tables hold is one piece of bytes known from before; a line that is
new is sent as a literal, and joins the dynamic table when it is seen for the second time. So values that never repeat
(request and trace ids) cost no table change, and a steady flow of messages is look-ups alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from mesh.proxy.http2 import huffman
from mesh.proxy.http2.fields import CONNECTION_SPECIFIC
from mesh.proxy.http2.static_table import DEFAULT_TABLE, STATIC

_STATIC_SIZE = len(STATIC)
_MOST_KNOWN = 1024
_MOST_SEEN = 512
_SHORT_COOKIE = 20
# Never indexed, so that no table entry lets a guess be checked by its compression (RFC 7541 section 7.1.3).
_SECRET = frozenset((b"authorization", b"proxy-authorization"))
_NOT_SENT = CONNECTION_SPECIFIC | {b"http2-settings"}


def integer(value: int, bits: int, first: int) -> bytes:
    """An integer with a prefix of `bits` bits, after the bits of `first` (RFC 7541 section 5.1)."""
    mask = (1 << bits) - 1
    if value < mask:
        return bytes((first | value,))
    out = bytearray((first | mask,))
    value -= mask
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _string(text: bytes) -> bytes:
    return integer(len(text), 7, 0) + text


def _short_string(text: bytes) -> bytes:
    coded = huffman.encode(text)
    return integer(len(coded), 7, 0x80) + coded if len(coded) < len(text) else _string(text)


_NAMES: dict[bytes, int] = {}
_EXACT: dict[bytes, bytes] = {}  # by line
for _index, (_name, _value) in enumerate(STATIC, 1):
    _NAMES.setdefault(_name, _index)
    if _value:
        _EXACT[b"%b: %b" % (_name, _value)] = integer(_index, 7, 0x80)


class Encoder:
    """One direction of a connection. `own_limit` is the largest table that we would keep, in HPACK's bytes;
    lines of the names in `not_sent` are left out, as connection-specific ones are.
    """

    __slots__ = (
        "_inserted", "_known", "_lowest", "_not_sent", "_own_limit", "_places", "_room", "_seen", "_size",
        "_table",
    )  # fmt: skip

    def __init__(self, own_limit: int = DEFAULT_TABLE, not_sent: frozenset[bytes] = frozenset()) -> None:
        self._own_limit = own_limit
        self._not_sent = _NOT_SENT | not_sent
        self._room = min(own_limit, DEFAULT_TABLE)
        # The size that must still be said, and the smallest that it was since the last time it was said; None if none.
        self._lowest: int | None = self._room if own_limit < DEFAULT_TABLE else None
        self._size = 0
        self._inserted = 0
        self._table: deque[tuple[bytes, int]] = deque()  # line and size; newest last
        self._places: dict[bytes, int] = {}  # line to number
        self._known: dict[bytes, bytes] = dict(_EXACT)
        self._seen: set[bytes] = set()

    def encode(self, lines: Iterable[bytes]) -> bytes:
        """The block of these lines (`name: value`, names in any case; pseudo headers first)."""
        known = self._known
        pieces = []
        if self._lowest is not None:
            pieces.append(self._announce())
        for line in lines:
            piece = known.get(line)
            if piece is None:
                piece = self._new(line)
            pieces.append(piece)
        return b"".join(pieces)

    def limit(self, peers_limit: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE has changed."""
        room = min(self._own_limit, peers_limit)
        if room == self._room:
            return
        self._room = room
        self._lowest = room if self._lowest is None else min(self._lowest, room)
        self._evict()
        self._forget()

    def _announce(self) -> bytes:
        # If it has shrunk and grown again in between, both must be said (RFC 7541 section 4.2).
        lowest, self._lowest = self._lowest or 0, None
        update = integer(self._room, 5, 0x20)
        return integer(lowest, 5, 0x20) + update if lowest < self._room else update

    def _new(self, line: bytes) -> bytes:
        colon = line.index(b":", 1)
        name, value = line[:colon].lower(), line[colon + 1 :].strip(b" \t")
        if name in self._not_sent:
            return self._keep(line, b"")
        text = b"%b: %b" % (name, value)
        number = self._places.get(text)
        if number is not None:
            return self._keep(line, integer(_STATIC_SIZE + self._inserted - number, 7, 0x80))
        exact = _EXACT.get(text)
        if exact is not None:
            return self._keep(line, exact)
        index = _NAMES.get(name, 0)
        if name in _SECRET or (name == b"cookie" and len(value) < _SHORT_COOKIE):
            return (integer(index, 4, 0x10) if index else b"\x10" + _string(name)) + _string(value)
        size = len(name) + len(value) + 32
        if text in self._seen and size <= self._room:
            self._insert(text, size)
            return (integer(index, 6, 0x40) if index else b"\x40" + _short_string(name)) + _short_string(value)
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen.add(text)
        return (integer(index, 4, 0) if index else b"\x00" + _string(name)) + _string(value)

    def _keep(self, line: bytes, piece: bytes) -> bytes:
        if len(self._known) >= _MOST_KNOWN:
            self._forget()
        self._known[line] = piece
        return piece

    def _insert(self, text: bytes, size: int) -> None:
        self._seen.discard(text)
        self._size += size
        self._table.append((text, size))
        self._places[text] = self._inserted
        self._inserted += 1
        self._evict()
        self._forget()

    def _evict(self) -> None:
        while self._size > self._room:
            text, size = self._table.popleft()
            self._size -= size
            del self._places[text]

    def _forget(self) -> None:
        """Every index has moved."""
        self._known.clear()
        self._known.update(_EXACT)
