"""HPACK decoding (RFC 7541): header blocks to fields, with the peer's dynamic table."""

from __future__ import annotations

from collections import deque

from mesh.proxy.http2 import huffman
from mesh.proxy.http2.errors import HpackBroke
from mesh.proxy.http2.fields import Field, Judge, request_field, response_field
from mesh.proxy.http2.static_table import DEFAULT_TABLE, STATIC

_STATIC: dict[Judge, tuple[Field, ...]] = {
    judge: tuple(judge(name, value) for name, value in STATIC) for judge in (request_field, response_field)
}
_STATIC_SIZE = len(STATIC)
_MOST_STRINGS = 2048
_LONGEST_STRING_KEPT = 256

# What Huffman strings mean. Shared by all connections, bounded, and the peers say much the same.
_strings: dict[bytes, bytes] = {}


class Decoder:
    """One direction of a connection. `limit` is the table size, in HPACK's bytes, that we announced in our settings.

    `heads` is for the caller: what it made of whole blocks. It is emptied when the table changes, so that a block that
    is found in it means the same as before.
    """

    __slots__ = ("_judge", "_limit", "_room", "_size", "_static", "_table", "heads")

    def __init__(self, judge: Judge, limit: int = DEFAULT_TABLE) -> None:
        self._judge = judge
        self._static = _STATIC[judge]
        self._table: deque[Field] = deque()  # newest last
        self._size = 0
        # The peer may use the default size until it has seen our settings.
        self._limit = max(limit, DEFAULT_TABLE)
        self._room = DEFAULT_TABLE  # what it does use
        self.heads: dict[bytes, object] = {}

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a whole block. Raises HpackBroke."""
        fields: list[Field] = []
        static, table = self._static, self._table
        at, end = 0, len(block)
        try:
            while at < end:
                byte = block[at]
                at += 1
                if byte & 0x80:
                    index = byte & 0x7F
                    if index == 0x7F:
                        index, at = _integer(block, at, index)
                    if index > _STATIC_SIZE:
                        fields.append(table[_STATIC_SIZE - index])
                    elif index:
                        fields.append(static[index - 1])
                    else:
                        raise HpackBroke("index 0")
                elif byte & 0x40:
                    field, at = self._literal(block, at, byte & 0x3F, 0x3F)
                    self._insert(field)
                    fields.append(field)
                elif byte & 0x20:
                    at = self._resize(block, at, byte & 0x1F, is_first=not fields)
                else:
                    field, at = self._literal(block, at, byte & 0x0F, 0x0F)
                    fields.append(field)
        except IndexError:
            raise HpackBroke("an index or a string out of bounds") from None
        return fields

    def _literal(self, block: bytes, at: int, index: int, mask: int) -> tuple[Field, int]:
        if index == mask:
            index, at = _integer(block, at, mask)
        if not index:
            name, at = _string(block, at)
        elif index > _STATIC_SIZE:
            name = self._table[_STATIC_SIZE - index].name
        else:
            name = self._static[index - 1].name
        value, at = _string(block, at)
        return self._judge(name, value), at

    def _insert(self, field: Field) -> None:
        if self.heads:
            self.heads.clear()
        self._size += field.size
        self._table.append(field)
        self._evict()

    def _evict(self) -> None:
        while self._size > self._room:
            self._size -= self._table.popleft().size

    def _resize(self, block: bytes, at: int, room: int, *, is_first: bool) -> int:
        if room == 0x1F:
            room, at = _integer(block, at, room)
        if room > self._limit or not is_first:
            raise HpackBroke("a table size that is not allowed")
        self._room = room
        self.heads.clear()
        self._evict()
        return at


def _integer(block: bytes, at: int, value: int) -> tuple[int, int]:
    """The rest of an integer whose prefix was all ones, `value` (RFC 7541 section 5.1)."""
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
        if shift > 28:
            raise HpackBroke("an integer out of bounds")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    byte = block[at]
    at += 1
    size = byte & 0x7F
    if size == 0x7F:
        size, at = _integer(block, at, size)
    end = at + size
    if end > len(block):
        raise HpackBroke("a string out of bounds")
    coded = block[at:end]
    if not byte & 0x80:
        return coded, end
    try:
        return _strings[coded], end
    except KeyError:
        text = huffman.decode(coded)
    if size <= _LONGEST_STRING_KEPT:
        if len(_strings) >= _MOST_STRINGS:
            _strings.clear()
        _strings[coded] = text
    return text, end
