"""HTTP/1 messages as they were on the wire, read leniently so that an engine's mistakes are seen, not refused."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

BODILESS = frozenset({204, 304})
HEAD_LIMIT = 1 << 20


class MessageCut(Exception):
    """The peer ended the connection inside a message; `message` holds what had arrived."""

    def __init__(self, message: Message) -> None:
        super().__init__(f"connection ended inside {message.start!r}")
        self.message = message


@dataclass
class Message:
    """One request or response: start line, headers in order and in the case they came in, decoded body.

    `reset` is the code that an HTTP/2 stream was reset with.
    """

    start: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    framing: str = "none"
    reset: str | None = None

    @property
    def status(self) -> int:
        """The status code, when this is a response."""
        return int(self.start.split(" ", 2)[1])

    def values(self, name: str) -> list[str]:
        """All values of a header, name compared without case."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def first(self, name: str) -> str:
        """The first value of a header in lower case, or an empty string."""
        return next(iter(self.values(name)), "").lower()


def parse_fields(lines: list[bytes]) -> list[tuple[str, str]]:
    """Header or trailer lines as (name, value) pairs in order."""
    pairs = [line.decode("latin-1").partition(":") for line in lines if line]
    return [(name, value.strip(" \t")) for name, _, value in pairs]


async def read_head(reader: asyncio.StreamReader) -> Message | None:
    """The next head, or None when the peer closed between messages. Raises MessageCut inside one."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise MessageCut(Message(error.partial.decode("latin-1"), [])) from error
    lines = raw.split(b"\r\n")
    return Message(lines[0].decode("latin-1"), parse_fields(lines[1:]))


async def read_body(reader: asyncio.StreamReader, message: Message, *, until_close: bool) -> None:
    """Fill in the body as the head frames it (RFC 9112 section 6.3). Raises MessageCut when it ends early."""
    try:
        if message.first("transfer-encoding").endswith("chunked"):
            message.framing = "chunked"
            await _read_chunks(reader, message)
        elif length := message.first("content-length"):
            message.framing = "length"
            message.body = await reader.readexactly(int(length))
        elif until_close:
            message.framing = "close"
            while piece := await reader.read(1 << 16):
                message.body += piece
    except asyncio.IncompleteReadError as error:
        message.body += error.partial
        raise MessageCut(message) from error
    except ConnectionError as error:
        raise MessageCut(message) from error


async def _read_chunks(reader: asyncio.StreamReader, message: Message) -> None:
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        message.body += (await reader.readexactly(size + 2))[:-2]
    lines = []
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        lines.append(line[:-2])
    message.trailers = parse_fields(lines)


async def read_response(reader: asyncio.StreamReader, method: str) -> Message | None:
    """The next response to `method`, or None when the peer closed before one began."""
    message = await read_head(reader)
    is_tunnel = method == "CONNECT" and message is not None and message.status < 300
    if message is None or message.status < 200 or method == "HEAD" or message.status in BODILESS or is_tunnel:
        return message
    await read_body(reader, message, until_close=True)
    return message
