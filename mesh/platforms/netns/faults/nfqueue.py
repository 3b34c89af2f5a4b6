"""The messages of nfnetlink_queue, from bytes and to bytes, without I/O.

Source: linux/netlink.h, linux/netfilter/nfnetlink.h and nfnetlink_queue.h. Headers are in the machine's byte order,
numbers in attributes in the network's.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

NETLINK_NETFILTER = 12
SOL_NETLINK, NETLINK_NO_ENOBUFS = 270, 5

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_GENERAL = struct.Struct("=BB2s")  # family, version, queue (big-endian)
_ATTRIBUTE = struct.Struct("=HH")
_PACKET_HEADER = struct.Struct("!IHB")
_ERROR = struct.Struct("=i")

_REQUEST, _ACK = 1, 4
_NLMSG_ERROR = 2
_SUBSYSTEM = 3 << 8
_PACKET, _VERDICT, _CONFIG, _VERDICT_BATCH = (_SUBSYSTEM | n for n in range(4))
_CFG_CMD, _CFG_PARAMS, _CFG_QUEUE_MAXLEN = 1, 2, 3
_BIND, _UNBIND = 1, 2
_COPY_PACKET = 2
_ATTR_PACKET_HEADER, _ATTR_VERDICT_HEADER, _ATTR_PAYLOAD = 1, 2, 10
_TYPE_MASK = 0x3FFF
_DROP, _ACCEPT = 0, 1

_COPIED = 20
"""Of each packet, as much as tells its size: an IPv4 header."""
_TOTAL_LENGTH = struct.Struct("!2xH")


@dataclass(frozen=True, slots=True)
class Queued:
    """A packet that waits for a verdict; `size` is that of the whole IP packet."""

    queue: int
    ident: int
    size: int


@dataclass(frozen=True, slots=True)
class Answered:
    """The kernel's answer to the request with that sequence number; an `errno` of 0 is a yes."""

    sequence: int
    errno: int


def bind(queue: int, packets: int, sequence: int) -> list[bytes]:
    """Messages, each to be sent and answered, that make the sender the reader of a queue of `packets` at most."""
    command = struct.pack("!BBH", _BIND, 0, 0)
    parameters = struct.pack("!IB", _COPIED, _COPY_PACKET)
    wanted = ((_CFG_CMD, command), (_CFG_PARAMS, parameters), (_CFG_QUEUE_MAXLEN, struct.pack("!I", packets)))
    return [
        _message(_CONFIG, queue, _attribute(kind, value), flags=_REQUEST | _ACK, sequence=sequence + index)
        for index, (kind, value) in enumerate(wanted)
    ]


def unbind(queue: int) -> bytes:
    """What still waits in the queue is dropped."""
    return _message(_CONFIG, queue, _attribute(_CFG_CMD, struct.pack("!BBH", _UNBIND, 0, 0)))


def drop(queue: int, ident: int) -> bytes:
    """One packet."""
    return _verdict(_VERDICT, queue, _DROP, ident)


def accept_up_to(queue: int, ident: int) -> bytes:
    """This packet and all that came before it."""
    return _verdict(_VERDICT_BATCH, queue, _ACCEPT, ident)


def parse(data: bytes) -> Iterator[Queued | Answered]:
    """What one datagram of the kernel says; messages of other kinds are left out. Raises ValueError."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size or at + size > len(data):
            raise ValueError(f"a netlink message of {size} bytes, in {len(data) - at}")
        body = data[at + _HEADER.size : at + size]
        if kind == _NLMSG_ERROR:
            yield Answered(sequence, -_ERROR.unpack_from(body)[0])
        elif kind == _PACKET:
            yield _queued(body)
        at += _aligned(size)


def _queued(body: bytes) -> Queued:
    _, _, queue = _GENERAL.unpack_from(body)
    attributes = dict(_attributes(body, _GENERAL.size))
    if _ATTR_PACKET_HEADER not in attributes:
        raise ValueError("a queued packet without a header")
    ident, _, _ = _PACKET_HEADER.unpack_from(attributes[_ATTR_PACKET_HEADER])
    payload = attributes.get(_ATTR_PAYLOAD, b"")
    size = _TOTAL_LENGTH.unpack_from(payload)[0] if len(payload) >= _TOTAL_LENGTH.size else 0
    return Queued(int.from_bytes(queue, "big"), ident, size)


def _attributes(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + _ATTRIBUTE.size <= len(body):
        size, kind = _ATTRIBUTE.unpack_from(body, at)
        if size < _ATTRIBUTE.size or at + size > len(body):
            raise ValueError(f"an attribute of {size} bytes, in {len(body) - at}")
        yield kind & _TYPE_MASK, body[at + _ATTRIBUTE.size : at + size]
        at += _aligned(size)


def _verdict(kind: int, queue: int, verdict: int, ident: int) -> bytes:
    return _message(kind, queue, _attribute(_ATTR_VERDICT_HEADER, struct.pack("!II", verdict, ident)))


def _message(kind: int, queue: int, attributes: bytes, *, flags: int = _REQUEST, sequence: int = 0) -> bytes:
    body = _GENERAL.pack(0, 0, queue.to_bytes(2, "big")) + attributes
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(_aligned(size) - size)


def _aligned(size: int) -> int:
    return (size + 3) & ~3
