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
_LONGEST_STRING = 65536  # as it is on the wire: nghttp2's limit, and so Envoy's

# What Huffman strings mean. Shared by all connections, bounded, and the peers say much the same.
_strings: dict[bytes, bytes] = {}


class Decoder:
    """One direction of a connection. `limit` is the table size, in HPACK's bytes, that we announced in our settings.

    `heads` is for the caller: what it made of whole blocks. It is emptied when the table changes, so that a block that
    is found in it means the same as before.
    """

    __slots__ = (
        "_begun", "_begun_size", "_judge", "_limit", "_pieces", "_pieces_size", "_room", "_size", "_static", "_table",
        "_worth_trying", "heads",
    )  # fmt: skip

    def __init__(self, judge: Judge, limit: int = DEFAULT_TABLE) -> None:
        self._judge = judge
        self._static = _STATIC[judge]
        self._table: deque[Field] = deque()  # newest last
        self._size = 0
        # The peer may use the default size until it has seen our settings.
        self._limit = max(limit, DEFAULT_TABLE)
        self._room = DEFAULT_TABLE  # what it does use
        self.heads: dict[bytes, object] = {}
        self._begun: list[Field] | None = None  # of a block that is not complete
        self._begun_size = 0
        self._pieces: list[bytes] = []  # of it, what is not decoded
        self._pieces_size = 0
        self._worth_trying = 0

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a whole block, or of one whose last piece this is. Raises HpackBroke."""
        fields: list[Field] = []
        if self._begun is not None:
            fields, block = self._begun, b"".join((*self._pieces, block))
            self._begun = None
            self._pieces.clear()
            self._pieces_size = self._worth_trying = 0
        if self._decode(block, fields) < len(block):
            raise HpackBroke("an index or a string out of bounds")
        return fields

    def begin(self, piece: bytes, most: int, room: int) -> None:
        """Take a piece of a block that goes on. Raises HpackBroke.

        What is decoded beyond `most` fields or `room` bytes of them is not kept, apart from the field that goes beyond:
        the tables take note of it, and the block is too large in any case.
        """
        if self._begun is None:
            self._begun, self._begun_size = [], 0
        self._pieces.append(piece)
        self._pieces_size += len(piece)
        if self._pieces_size < self._worth_trying:
            return
        begun, found = self._begun, list[Field]()
        block = b"".join(self._pieces)
        rest = block[self._decode(block, found, is_first=not begun) :]
        self._pieces = [rest]
        self._pieces_size = len(rest)
        self._worth_trying = 2 * len(rest)  # else a long string that comes byte by byte is looked at for each byte
        for field in found:
            if self._begun_size > room or len(begun) > most:
                break
            self._begun_size += field.size - 32
            begun.append(field)

    def _decode(self, block: bytes, fields: list[Field], *, is_first: bool = True) -> int:
        """Add what is complete of the block to the fields, and say where the rest begins."""
        static, table = self._static, self._table
        at, end, whole = 0, len(block), 0
        try:
            while at < end:
                whole = at
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
                    at = self._resize(block, at, byte & 0x1F, is_first=is_first and not fields)
                else:
                    field, at = self._literal(block, at, byte & 0x0F, 0x0F)
                    fields.append(field)
        except IndexError:
            return whole
        return at

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
    if size > _LONGEST_STRING:
        raise HpackBroke("a string that is too long")
    end = at + size
    if end > len(block):
        raise IndexError
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
