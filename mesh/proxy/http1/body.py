"""Body framing: where a message ends (RFC 9112 section 6), as small counting machines.

`take(data)` returns the payload in `data`; once `done`, what belongs to the next message is in `rest`. Payload is
passed on at once and never gathered, so memory is bounded by one read.
"""

from __future__ import annotations

from typing import Protocol

from mesh.proxy.http1.errors import CodingRefusedError, MalformedError
from mesh.proxy.http1.head import Head, ResponseHead
from mesh.proxy.http1.parse import CONTROLS

_MAX_CHUNK_LINE = 4096
_MAX_TRAILERS = 16 * 1024
_HEX = frozenset(b"0123456789abcdefABCDEF")
_MAX_LENGTH_DIGITS = 18


class Body(Protocol):
    """One message body being read."""

    done: bool
    rest: bytes

    def take(self, data: bytes) -> bytes:
        """The payload in `data`. Raises MalformedError. Not to be called once `done`."""


class Sized:
    """Content-Length."""

    __slots__ = ("done", "left", "rest")

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

    def __init__(self) -> None:
        self.done = False
        self.rest = b""

    def take(self, data: bytes) -> bytes:
        return data


class Chunked:
    """Transfer-Encoding: chunked. Extensions and trailers are read, checked and dropped, as Envoy does by default."""

    __slots__ = ("_left", "_line", "_trailers", "done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self._left = 0  # of the chunk's payload and its CRLF
        self._line = b""  # an unfinished line
        self._trailers = -1  # bytes of trailers read, once the last chunk has come

    def take(self, data: bytes) -> bytes:
        pieces: list[bytes] = []
        at = 0
        size = len(data)
        while at < size and not self.done:
            if self._left:
                at = self._payload(data, at, pieces)
                continue
            end = data.find(b"\n", at)
            line = self._line + (data[at:] if end < 0 else data[at : end + 1])
            if len(line) > _MAX_CHUNK_LINE:
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
        if self._trailers >= 0:
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
            self._trailers = 0

    def _trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.done = True
            return
        self._trailers += len(line)
        if self._trailers > _MAX_TRAILERS or b":" not in line or line[:1] in (b" ", b"\t", b":"):
            raise MalformedError("http1.codec_error")
        if len(line.translate(None, CONTROLS)) != len(line) - 2:
            raise MalformedError("http1.codec_error")


BODILESS = frozenset((204, 304))  # statuses of responses that never have a body


def request_body(head: Head) -> Body | None:
    """The body that follows a request head; None if there is none. Raises MalformedError for ambiguous framing."""
    marked = head.marked
    length = marked.get(b"content-length")
    coding = marked.get(b"transfer-encoding")
    if coding is None:
        return None if length is None or (size := content_length(length)) == 0 else Sized(size)
    if coding.lower() != b"chunked":
        raise CodingRefusedError("http1.invalid_transfer_encoding")
    if length is not None:
        raise MalformedError("http1.content_length_and_chunked_not_allowed")  # RFC 9112 section 6.1: smuggling
    return Chunked()


def response_body(head: ResponseHead, method: bytes) -> Body | None:
    """The body that follows a response head (RFC 9112 section 6.3). Raises MalformedError for ambiguous framing."""
    marked = head.marked
    length = marked.get(b"content-length")
    coding = marked.get(b"transfer-encoding")
    if method == b"HEAD" or head.status in BODILESS or head.status < 200:
        return None
    if coding is not None:
        if length is not None or coding.lower() != b"chunked":
            raise MalformedError("http1.codec_error")
        return Chunked()
    if length is None:
        return UntilClose()
    size = content_length(length)
    return Sized(size) if size else None


def content_length(value: bytes) -> int:
    """The value of Content-Length. Raises MalformedError."""
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        raise MalformedError("http1.codec_error")
    return int(value)


def chunk(payload: bytes) -> bytes:
    """One chunk of a chunked body; `payload` is not empty."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


LAST_CHUNK = b"0\r\n\r\n"
