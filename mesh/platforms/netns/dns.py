"""The lab's DNS (RFC 1035): A records of the mesh's names, from the control plane's table, over UDP and TCP.

Answers are made from bytes to bytes, without I/O; the server is below. There is nothing to ask upstream: a pod reaches
nobody whom one would find there, so a name that the table does not have does not exist.
"""

import asyncio
import functools
import ipaddress
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import cast

PORT = 53
TTL_S = 2
"""Short, as a table changes with its services; Kubernetes' own DNS says 5."""

Table = Mapping[str, Sequence[str]]
Spoiled = Callable[[str, str], int | None]
"""What a fault makes of a question, by the asker's address and the lower-case name: an answer's code, SILENCE, or None
where there is no fault."""
SILENCE = -1

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHHIH4s")
_QUESTION_TAIL = struct.Struct("!HH")
_TYPE_A, _TYPE_ANY, _CLASS_IN = 1, 255, 1
_FORMAT_ERROR, SERVER_FAILURE, NO_NAME, _NOT_IMPLEMENTED, _REFUSED = 1, 2, 3, 4, 5
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
_MAX_UDP, _MAX_TCP, _MAX_NAME = 512, 0xFFFF, 255
_NAME_OF_QUESTION = 0xC000 | _HEADER.size
_IDLE_S = 5.0
_MAX_CONNECTIONS = 256


class _MalformedError(ValueError):
    """The question cannot be read."""


def answer(query: bytes, table: Table, limit: int, spoiled: Callable[[str], int | None] | None = None) -> bytes | None:
    """The reply, of `limit` bytes at most; None for what deserves none: a reply, or less than a header. Empty where
    `spoiled` says SILENCE of the name."""
    if len(query) < _HEADER.size:
        return None
    ident, flags, questions, *_ = _HEADER.unpack_from(query)
    if flags & _RESPONSE:
        return None
    kept = _RESPONSE | _RECURSION_AVAILABLE | (flags & (_OPCODE | _RECURSION_DESIRED))
    if flags & _OPCODE:
        return _HEADER.pack(ident, kept | _NOT_IMPLEMENTED, 0, 0, 0, 0)
    try:
        if questions != 1:
            raise _MalformedError
        name, kind, class_, end = _question(query)
    except _MalformedError:
        return _HEADER.pack(ident, kept | _FORMAT_ERROR, 0, 0, 0, 0)
    question = query[_HEADER.size : end]
    if class_ != _CLASS_IN:
        return _HEADER.pack(ident, kept | _REFUSED, 1, 0, 0, 0) + question
    code = spoiled(name) if spoiled is not None else None
    if code is not None:
        return b"" if code == SILENCE else _HEADER.pack(ident, kept | code, 1, 0, 0, 0) + question
    found = look_up(name, table)
    if found is None:
        return _HEADER.pack(ident, kept | _AUTHORITATIVE | NO_NAME, 1, 0, 0, 0) + question
    addresses = found if kind in (_TYPE_A, _TYPE_ANY) else ()
    records = [_record(address) for address in addresses]
    room = (limit - end) // (_RECORD.size)
    cut = _TRUNCATED if len(records) > room else 0
    shown = records[:room]
    return _HEADER.pack(ident, kept | _AUTHORITATIVE | cut, 1, len(shown), 0, 0) + question + b"".join(shown)


def look_up(name: str, table: Table) -> Sequence[str] | None:
    """Addresses of a lower-case name; a wildcard `*.` stands for whatever has no entry of its own. None: unknown."""
    if name in table:
        return table[name]
    _, _, parent = name.partition(".")
    while parent:
        if f"*.{parent}" in table:
            return table[f"*.{parent}"]
        _, _, parent = parent.partition(".")
    return None


def _question(query: bytes) -> tuple[str, int, int, int]:
    """Name, type, class, and where the question ends. Names in a question are never compressed."""
    labels, at = [], _HEADER.size
    while True:
        if at >= len(query):
            raise _MalformedError
        size = query[at]
        at += 1
        if size == 0:
            break
        if size > 63 or at + size > len(query) or at + size - _HEADER.size > _MAX_NAME:
            raise _MalformedError
        labels.append(query[at : at + size])
        at += size
    if at + _QUESTION_TAIL.size > len(query):
        raise _MalformedError
    kind, class_ = _QUESTION_TAIL.unpack_from(query, at)
    return b".".join(labels).decode("latin-1").lower(), kind, class_, at + _QUESTION_TAIL.size


def _record(address: str) -> bytes:
    return _RECORD.pack(_NAME_OF_QUESTION, _TYPE_A, _CLASS_IN, TTL_S, 4, ipaddress.IPv4Address(address).packed)


class Resolver:
    """Listens in this process's network namespace until closed. `table` and `spoiled` may be replaced at any time."""

    def __init__(self) -> None:
        self.table: Table = {}
        self.spoiled: Spoiled | None = None
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._connections = 0

    async def start(self, address: str, port: int = PORT) -> None:
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(address, port))
        bound = self._udp.get_extra_info("sockname")[1]
        self._tcp = await asyncio.start_server(self._serve, address, bound, family=socket.AF_INET)

    async def start_on(self, udp: socket.socket, tcp: socket.socket) -> None:
        """On bound sockets, in whichever network they were made."""
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)
        self._tcp = await asyncio.start_server(self._serve, sock=tcp)

    @property
    def port(self) -> int:
        assert self._udp is not None
        return int(self._udp.get_extra_info("sockname")[1])

    def close(self) -> None:
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()

    def reply(self, query: bytes, asker: str, limit: int) -> bytes | None:
        """As `answer`."""
        spoiled = functools.partial(self.spoiled, asker) if self.spoiled is not None else None
        return answer(query, self.table, limit, spoiled)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            while self._connections <= _MAX_CONNECTIONS:
                async with asyncio.timeout(_IDLE_S):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    query = await reader.readexactly(size)
                reply = self.reply(query, writer.get_extra_info("peername")[0], _MAX_TCP)
                if reply is None:
                    return
                if not reply:
                    continue
                writer.write(len(reply).to_bytes(2, "big") + reply)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            return  # whoever asked has gone, or says nothing
        finally:
            self._connections -= 1
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        reply = self._resolver.reply(data, str(addr[0]), _MAX_UDP)
        if reply and self._transport is not None:
            self._transport.sendto(reply, addr)
