"""Body framing: where a message ends (RFC 9112 section 6), as small counting machines.

`take(data)` returns the payload in `data`; once `done`, what belongs to the next message is in `rest`. Payload is
passed on at once and never gathered, so memory is bounded by one read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from mesh.proxy.http1.errors import CodingRefusedError, HeadTooLargeError, MalformedError
from mesh.proxy.http1.head import Head, ResponseHead
from mesh.proxy.http1.names import REQUEST_NAMES
from mesh.proxy.http1.parse import CONTROLS, MAX_HEAD
from mesh.proxy.http1.upgrade import is_upgrade

_MAX_CHUNK_LINE = 4096
_PLAIN_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})\r\n").match
_HEX = frozenset(b"0123456789abcdefABCDEF")
_MAX_LENGTH_DIGITS = 18


class Body(Protocol):
    """One message body being read. `trailers` are the lines that came after it, where they are wanted."""

    done: bool
    rest: bytes

    @property
    def trailers(self) -> Sequence[bytes]: ...

    def take(self, data: bytes) -> bytes:
        """The payload in `data`. Raises MalformedError. Not to be called once `done`."""


class Sized:
    """Content-Length."""

    __slots__ = ("done", "left", "rest")
    trailers: Sequence[bytes] = ()

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0
        self.rest = b""

    def take(self, data: bytes) -> bytes:
        left = self.left - len(data)
        if left > 0:
            self.left = left
            return data
        self.left = 0
        self.done = True
        if left < 0:
            self.rest = data[left:]
            return data[:left]
        return data


class UntilClose:
    """A response that ends when its connection does."""

    __slots__ = ("done", "rest")
    trailers: Sequence[bytes] = ()

    def __init__(self) -> None:
        self.done = False
        self.rest = b""

    def take(self, data: bytes) -> bytes:
        return data


class Tunnel(UntilClose):
    """What two ends say to each other when HTTP is over; the connection's end is not a clean one."""

    __slots__ = ()


class Chunked:
    """Transfer-Encoding: chunked. Extensions are read, checked and dropped, and so are trailers unless some are wanted.

    `max_size` bounds the trailers' bytes, `max_trailers` their number; with 0 none are kept, however many there are.
    """

    __slots__ = ("_left", "_line", "_max_size", "_max_trailers", "_size", "done", "rest", "trailers")

    def __init__(self, max_size: int = MAX_HEAD, max_trailers: int = 0) -> None:
        self.done = False
        self.rest = b""
        self.trailers: list[bytes] = []
        self._max_size = max_size
        self._max_trailers = max_trailers
        self._left = 0  # of the chunk's payload and its CRLF
        self._line = b""  # an unfinished line
        self._size = -1  # bytes of trailers read, once the last chunk has come

    def take(self, data: bytes) -> bytes:
        pieces: list[bytes] = []
        at = 0
        size = len(data)
        while at < size and not self.done:
            if self._left:
                at = self._payload(data, at, pieces)
                continue
            if self._size < 0 and not self._line and (whole := _PLAIN_SIZE(data, at)) is not None:
                # The common chunk, which has no extension and is all there. Whoever sends tiny ones costs half as much.
                begin = whole.end()
                end = begin + int(whole[1], 16)
                if end > begin and data[end : end + 2] == b"\r\n":
                    pieces.append(data[begin:end])
                    at = end + 2
                    continue
            end = data.find(b"\n", at)
            line = self._line + (data[at:] if end < 0 else data[at : end + 1])
            if self._size >= 0:
                if self._size + len(line) > self._max_size:
                    raise HeadTooLargeError("http1.headers_too_large")
            elif len(line) > _MAX_CHUNK_LINE:
                raise MalformedError("http1.codec_error")
            if end < 0:
                self._line = line
                break
            self._line = b""
            at = end + 1
            self._line_read(line)
        if self.done:
            self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _payload(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        left = self._left
        if left > 2:
            piece = data[at : at + left - 2]
            pieces.append(piece)
            self._left = left - len(piece)
            return at + len(piece)
        if data[at] != (0x0D if left == 2 else 0x0A):
            raise MalformedError("http1.codec_error")
        self._left = left - 1
        return at + 1

    def _line_read(self, line: bytes) -> None:
        if line[-2:] != b"\r\n":
            raise MalformedError("http1.codec_error")
        if self._size >= 0:
            self._trailer(line)
            return
        digits, extended, extension = line[:-2].partition(b";")
        if extended and len(extension.translate(None, CONTROLS)) != len(extension):
            raise MalformedError("http1.codec_error")
        digits = digits.rstrip(b" \t")
        if not digits or not _HEX.issuperset(digits) or len(digits) > 16:
            raise MalformedError("http1.codec_error")
        length = int(digits, 16)
        if length:
            self._left = length + 2
        else:
            self._size = 0

    def _trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.done = True
            return
        self._size += len(line)
        line = line[:-2]
        name, colon, _ = line.partition(b":")
        if not colon or len(line.translate(None, CONTROLS)) != len(line):
            raise MalformedError("http1.codec_error")
        if name not in REQUEST_NAMES.known:
            REQUEST_NAMES.learn(name)
        if self._max_trailers:
            if len(self.trailers) == self._max_trailers:
                raise HeadTooLargeError("http1.too_many_headers")
            self.trailers.append(line)


BODILESS = frozenset((204, 304))  # statuses of responses that never have a body


def request_body(head: Head, max_head: int = MAX_HEAD, max_trailers: int = 0) -> Body | None:
    """The body that follows a request head; None if there is none. Raises MalformedError for ambiguous framing.

    The limits are those of its trailers: see `Chunked`.
    """
    marked = head.marked
    length = marked.get(b"content-length")
    coding = marked.get(b"transfer-encoding")
    if b"upgrade" in marked and is_upgrade(head):
        return Tunnel()
    if coding is None:
        return None if length is None or (size := content_length(length)) == 0 else Sized(size)
    if coding.lower() != b"chunked":
        raise CodingRefusedError("http1.invalid_transfer_encoding")
    if length is not None:
        raise MalformedError("http1.content_length_and_chunked_not_allowed")  # RFC 9112 section 6.1: smuggling
    return Chunked(max_head, max_trailers)


def response_body(head: ResponseHead, method: bytes, max_trailers: int = 0) -> Body | None:
    """The body that follows a response head (RFC 9112 section 6.3). Raises MalformedError for ambiguous framing."""
    marked = head.marked
    length = marked.get(b"content-length")
    coding = marked.get(b"transfer-encoding")
    status = head.status
    if status < 200 or status == 204:
        if coding is not None or length not in (None, b"0"):
            raise MalformedError("http1.codec_error")  # RFC 9112 section 6.1: they cannot have what this announces
        return None
    if method == b"HEAD" or status == 304:
        return None
    if coding is not None:
        if length is not None or coding.lower() != b"chunked":
            raise MalformedError("http1.codec_error")
        return Chunked(MAX_HEAD, max_trailers)
    if length is None:
        return UntilClose()
    size = content_length(length)
    return Sized(size) if size else None


def is_whole(head: ResponseHead, method: bytes, payload: bytes) -> bool:
    """Whether `payload`, which is not empty, is the response's body to its end, so that there is nothing to count."""
    marked = head.marked
    return (
        marked.get(b"content-length") == b"%d" % len(payload)
        and b"transfer-encoding" not in marked
        and method != b"HEAD"
        and head.status >= 200
        and head.status not in BODILESS
    )


def content_length(value: bytes) -> int:
    """The value of Content-Length. Raises MalformedError."""
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        raise MalformedError("http1.codec_error")
    return int(value)


def chunk(payload: bytes) -> bytes:
    """One chunk of a chunked body; `payload` is not empty."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def last_chunk(trailers: Head) -> bytes:
    """The end of a chunked body that has trailers."""
    return b"0\r\n%b\r\n\r\n" % b"\r\n".join(trailers.lines)


LAST_CHUNK = b"0\r\n\r\n"
